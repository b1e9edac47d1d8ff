"""Small rows: weights as whole numbers with a scale for each row, a quarter or half as large.

What serves predictions only need not hold float32: 8 bits change a logit by about 0.3 %, 16 bits
by nothing that a float16 or bfloat16 would tell, since all bits of these whole numbers are digits.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from slidelearn.rows import BIAS_INPUT, Rows

__all__ = [
    "SMALL_TYPES",
    "SmallRows",
    "dot_small",
    "multiply_some",
    "small_product",
    "small_rows",
]

SMALL_TYPES = ("int8", "int16")
_BLOCK = 4096  # rows that are made small at a time


class SmallRows(NamedTuple):
    """Rows of weights (n, d): ``values * scales[:, None]``.

    Attributes
    ----------
    values : int8 or int16 array of shape (n, d)
        Whole numbers; the largest of a row is 127 or 32,767.
    scales : float32 array of shape (n,)
        What they are multiplied with.
    bias : float32 array of shape (n,), or (0,)
        The weight of the constant input, where rows are neurons.
    """

    values: NDArray[np.int8] | NDArray[np.int16]
    scales: NDArray[np.float32]
    bias: NDArray[np.float32]

    def floats(self, start: int, end: int) -> NDArray[np.float32]:
        """Rows start to end as float32, (m, d + 1) with their bias, or (m, d) if they have none."""
        rows = self.values[start:end] * self.scales[start:end, None]
        if not len(self.bias):
            return rows
        return np.concatenate((rows, self.bias[start:end, None]), axis=1)


def small_rows(
    weight: NDArray[np.float32],
    dtype: str,
    *,
    neurons: bool,
    order: NDArray[np.integer] | None = None,
) -> SmallRows:
    """Round rows of weights (n, d), in an order (m,) if one is given.

    Parameters
    ----------
    weight : float32 array of shape (n, d)
        Finite weights.
    dtype : {"int8", "int16"}
        Of the whole numbers.
    neurons : bool
        Rows are neurons: their last weight is a bias, which stays as it is.
    order : int array of shape (m,), optional
        Which rows, and in what order.

    Examples
    --------
    >>> rows = small_rows(np.array([[1.0, -0.5, 3.0]], np.float32), "int8", neurons=True)
    >>> rows.values.tolist(), rows.bias.tolist()
    ([[127, -64]], [3.0])
    """
    n = len(weight) if order is None else len(order)
    width = weight.shape[1] - neurons
    values = np.empty((n, width), dtype)
    scales, bias = np.empty(n, np.float32), np.empty(n if neurons else 0, np.float32)
    most = np.iinfo(dtype).max
    for start in range(0, n, _BLOCK):
        part = slice(start, start + _BLOCK)
        rows = weight[part] if order is None else weight[order[part]]
        scales[part] = np.abs(rows[:, :width]).max(axis=1, initial=0) / most
        divisors = np.where(scales[part] > 0, scales[part], np.inf)  # rows of zeros stay
        values[part] = np.rint(rows[:, :width] / divisors[:, None])
        if neurons:
            bias[part] = rows[:, -1]
    return SmallRows(values, scales, bias)


@njit(cache=True, nogil=True, fastmath=True, forceinline=True)
def dot_small(
    numbers: NDArray[np.integer] | NDArray[np.float32], vector: NDArray[np.float32]
) -> np.float32:
    """Inner product of numbers (d,), mostly whole ones, with a vector, (d,) or longer."""
    total = np.float32(0)
    for j in range(len(numbers)):
        total += np.float32(numbers[j]) * vector[j]
    return total


@njit(cache=True, nogil=True, fastmath=True, forceinline=True)
def multiply_some(
    rows: SmallRows,
    places: NDArray[np.int64] | NDArray[np.int32],
    n: int,
    vector: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Inner products of the rows at the first n places with a vector, (d,) or longer: out (n,)."""
    values, scales = rows.values, rows.scales
    for q in range(n):
        place, total = np.uint64(places[q]), np.float32(0)
        for j in range(values.shape[1]):
            total += np.float32(values[place, j]) * vector[j]
        out[q] = scales[place] * total


@njit(cache=True, nogil=True, fastmath=True, forceinline=True)
def small_product(x: Rows, weight: SmallRows, out: NDArray[np.float32]) -> None:
    """Multiply sparse rows by input-major weights (width + 1, m): out (n, m)."""
    for row in range(len(x.indptr) - 1):
        sums = out[row]
        for j in range(len(sums)):
            sums[j] = BIAS_INPUT * weight.scales[x.width] * weight.values[x.width, j]
        for e in range(x.indptr[row], x.indptr[row + 1]):
            source = weight.values[x.indices[e]]
            value = x.values[e] * weight.scales[x.indices[e]]
            for j in range(len(sums)):
                sums[j] += value * np.float32(source[j])
