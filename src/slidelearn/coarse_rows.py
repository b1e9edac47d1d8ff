"""Coarse rows: neurons in 4 bits a number, an eighth as large, to rank them by.

Of some hundred neurons that an example finds, a few dozen are left after their logits: those by
rows of 4 bits leave the same ones. Of a row of 512 numbers they read 4 cache lines instead of 32.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from slidelearn.prefetching import prefetch
from slidelearn.workers import Workers, pieces

__all__ = ["NO_COARSE", "CoarseRows", "coarse_bytes", "make_coarse", "multiply_coarse"]

_BITS, _LOW = 4, 15
_MOST = 7  # the largest number of a row
_ZERO = 8  # what 0 is held as
_BLOCK = 4096  # rows that one thread rounds at a time
_LINE, _AHEAD = 64, 4  # bytes, and rows


class CoarseRows(NamedTuple):
    """Rows of numbers from -7 to 7, each times its row's scale.

    Attributes
    ----------
    values : uint8 array of shape (n, (d + 1) // 2)
        Number j, plus 8, in the low half of byte j, the numbers behind the middle in high halves.
    scales : float32 array of shape (n,)
        What numbers of a row are multiples of.
    """

    values: NDArray[np.uint8]
    scales: NDArray[np.float32]


NO_COARSE = CoarseRows(np.empty((0, 0), np.uint8), np.empty(0, np.float32))


def coarse_bytes(n: int, width: int) -> int:
    """Bytes of coarse rows of n neurons with so many inputs.

    Examples
    --------
    >>> coarse_bytes(1000, 128)
    68000
    """
    return n * ((width + 1) // 2 + 4)


def make_coarse(weight: NDArray[np.float32], workers: Workers) -> CoarseRows:
    """Round neurons (n, d + 1) without their bias, to the nearest.

    Examples
    --------
    >>> with Workers(1) as workers:
    ...     rows = make_coarse(np.array([[3.5, -1.0, 0.4, 9.0]], np.float32), workers)
    >>> [(byte % 16 - 8, byte // 16 - 8) for byte in rows.values[0].tolist()], rows.scales.tolist()
    ([(7, 1), (-2, 0)], [0.5])
    """
    n, width = weight.shape
    rows = CoarseRows(np.empty((n, width // 2), np.uint8), np.empty(n, np.float32))

    def fill(start: int, end: int) -> None:
        _round(weight, start, end, rows)

    workers.map(fill, pieces(n, _BLOCK))
    return rows


@njit(cache=True, nogil=True, fastmath=True)
def _round(weight: NDArray[np.float32], start: int, end: int, rows: CoarseRows) -> None:
    """Round the rows start to end."""
    (values, scales), width = rows, weight.shape[1] - 1
    half = values.shape[1]
    for n in range(start, end):
        row, most = weight[n], np.float32(0)
        for j in range(width):
            size = abs(row[j])
            most = size if size > most else most
        scales[n] = most / _MOST
        inverse = np.float32(_MOST / most if most > 0 else 0)
        low, high = row[:half], row[half:]  # the last of which is the bias, if d is odd
        for j in range(half):
            values[n, j] = _held(low[j] * inverse) | (_held(high[j] * inverse) << _BITS)
        if 2 * half > width:
            values[n, half - 1] = _held(low[half - 1] * inverse) | (_ZERO << _BITS)


@njit(cache=True, nogil=True, fastmath=True, forceinline=True)
def _held(number: np.float32) -> np.int32:
    """What the nearest whole number is held as."""
    return np.int32(number + np.float32(_ZERO + 0.5))


@njit(cache=True, nogil=True, fastmath=True, forceinline=True)
def multiply_coarse(
    rows: CoarseRows,
    indptr: NDArray[np.int64],
    places: NDArray[np.int32],
    vectors: tuple[NDArray[np.int64], NDArray[np.float32]],
    out: NDArray[np.float32],
) -> None:
    """Inner products of the i-th places' rows, indptr[i] to indptr[i + 1], with vector i.

    Vectors (d + 1,) come as their starts, (n,) or longer, and all their numbers; out like places.
    """
    (values, scales), (starts, numbers) = rows, vectors
    half = np.uint64(values.shape[1])
    for i in range(len(indptr) - 1):
        front, back, total = np.uint64(starts[i]), np.uint64(starts[i]) + half, np.float32(0)
        for j in range(front, back + half):
            total += numbers[j]
        end = indptr[i + 1]
        for p in range(indptr[i], end, 2):  # two at a time, whose sums do not wait for each other
            other = min(p + 1, end - 1)
            for q in range(p + _AHEAD, min(p + _AHEAD + 2, len(places))):
                first = np.uint64(places[q]) * half
                for byte in range(first, first + half, np.uint64(_LINE)):
                    prefetch(values, byte)
            row, low, high = np.uint64(places[p]), np.float32(0), np.float32(0)
            other_row = np.uint64(places[other])
            other_low, other_high = np.float32(0), np.float32(0)
            for j in range(half):
                both, others = values[row, j], values[other_row, j]
                low += np.float32(np.uint8(both & np.uint8(_LOW))) * numbers[front + j]
                high += np.float32(np.uint8(both >> np.uint8(_BITS))) * numbers[back + j]
                other_low += np.float32(np.uint8(others & np.uint8(_LOW))) * numbers[front + j]
                other_high += np.float32(np.uint8(others >> np.uint8(_BITS))) * numbers[back + j]
            out[p] = scales[row] * (low + high - _ZERO * total)
            out[other] = scales[other_row] * (other_low + other_high - _ZERO * total)
