"""Small rows: weights of 8 or 16 bits, a quarter or half as large.

What serves predictions only need not hold float32. Whole numbers of 8 bits, with a scale for each
row, change a logit by about 0.3 %, those of 16 bits by less than bfloat16, since all their bits are
digits; bfloat16, the first half of a float32, is what other programs read.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np
from llvmlite import ir
from numba import config, njit, types
from numba.extending import intrinsic
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

SMALL_TYPES: dict[str, type[np.integer]] = {  # as they are held
    "int8": np.int8,
    "int16": np.int16,
    "bf16": np.uint16,
}
_BLOCK = 4096  # rows that are made small at a time
_HALF = 16  # bits of a bfloat16

_Small: TypeAlias = NDArray[np.int8] | NDArray[np.int16] | NDArray[np.uint16]


class SmallRows(NamedTuple):
    """Rows of weights (n, d): ``values * scales[:, None]``.

    Attributes
    ----------
    values : int8, int16 or uint16 array of shape (n, d)
        Whole numbers, the largest of a row 127 or 32,767; or bits of bfloat16.
    scales : float32 array of shape (n,)
        What they are multiplied with; 1 for bfloat16.
    bias : float32 array of shape (n,), or (0,)
        The weight of the constant input, where rows are neurons.
    """

    values: _Small
    scales: NDArray[np.float32]
    bias: NDArray[np.float32]

    def floats(self, start: int, end: int) -> NDArray[np.float32]:
        """Rows start to end as float32, (m, d + 1) with their bias, or (m, d) if they have none."""
        rows = _floats(self.values[start:end]) * self.scales[start:end, None]
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
    dtype : {"int8", "int16", "bf16"}
        Of the values.
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
    values, scales = np.empty((n, width), SMALL_TYPES[dtype]), np.empty(n, np.float32)
    bias = np.empty(n if neurons else 0, np.float32)
    for start in range(0, n, _BLOCK):
        part = slice(start, start + _BLOCK)
        rows = weight[part] if order is None else weight[order[part]]
        values[part], scales[part] = _round(rows[:, :width], SMALL_TYPES[dtype])
        if neurons:
            bias[part] = rows[:, -1]
    return SmallRows(values, scales, bias)


def _round(
    rows: NDArray[np.float32], dtype: type[np.integer]
) -> tuple[NDArray[np.generic], NDArray[np.float32] | np.float32]:
    """Values of rows (n, d), to the nearest, and their scales."""
    if dtype == np.uint16:
        bits = np.ascontiguousarray(rows).view(np.uint32)
        nearest = bits + (0x7FFF + ((bits >> _HALF) & 1))  # the even one, in the middle
        return (nearest >> _HALF).astype(dtype), np.float32(1)
    scales = np.abs(rows).max(axis=1, initial=0) / np.float32(np.iinfo(dtype).max)
    divisors = np.where(scales > 0, scales, np.inf)  # rows of zeros stay
    return np.rint(rows / divisors[:, None]), scales


def _floats(values: _Small) -> NDArray[np.float32]:
    """Values as float32."""
    if values.dtype == np.uint16:
        return (values.astype(np.uint32) << _HALF).view(np.float32)
    return values.astype(np.float32)


@intrinsic
def _widen(typing_context: Any, number: Any) -> Any:
    """Make a float32 of a value, in a kernel."""

    def generate(context: Any, builder: Any, _: Any, values: Any) -> Any:
        if number != types.uint16:
            return context.cast(builder, values[0], number, types.float32)
        whole = ir.IntType(2 * _HALF)
        bits = builder.shl(builder.zext(values[0], whole), whole(_HALF))
        return builder.bitcast(bits, ir.FloatType())

    return types.float32(number), generate


def _float(number: np.integer | np.floating) -> np.float32:
    """Stand in for `_widen` where kernels are not compiled."""
    return cast(np.float32, _floats(np.array([number]))[0])


widen: Callable[[np.integer | np.floating], np.float32]  # as kernels see it
widen = _float if cast(Any, config).DISABLE_JIT else cast(Any, _widen)


@njit(cache=True, nogil=True, fastmath=True, forceinline=True)
def dot_small(
    numbers: NDArray[np.integer] | NDArray[np.float32], vector: NDArray[np.float32]
) -> np.float32:
    """Inner product of numbers (d,), mostly small ones, with a vector, (d,) or longer."""
    total = np.float32(0)
    for j in range(len(numbers)):
        total += widen(numbers[j]) * vector[j]
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
            total += widen(values[place, j]) * vector[j]
        out[q] = scales[place] * total


@njit(cache=True, nogil=True, fastmath=True, forceinline=True)
def small_product(x: Rows, weight: SmallRows, out: NDArray[np.float32]) -> None:
    """Multiply sparse rows by input-major weights (width + 1, m): out (n, m)."""
    for row in range(len(x.indptr) - 1):
        sums = out[row]
        for j in range(len(sums)):
            sums[j] = BIAS_INPUT * weight.scales[x.width] * widen(weight.values[x.width, j])
        for e in range(x.indptr[row], x.indptr[row + 1]):
            source = weight.values[x.indices[e]]
            value = x.values[e] * weight.scales[x.indices[e]]
            for j in range(len(sums)):
                sums[j] += value * widen(source[j])
