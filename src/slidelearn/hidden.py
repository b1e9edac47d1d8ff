"""The hidden layer of sparse examples in predictions, as a kernel that others may call."""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from slidelearn.rows import BIAS_INPUT, Rows, sparse_product
from slidelearn.small_rows import SmallRows, small_product

__all__ = ["Hidden", "activate", "activations"]


class Hidden(NamedTuple):
    """A dense layer with ReLU, in full or small, whose input is sparse.

    Attributes
    ----------
    weight : float32 array of shape (n_in + 1, n_out)
        Input-major weights; empty if they are ``small``.
    small : tuple or None
        The same for predictions only: `SmallRows`, as a plain tuple.
    mean : float32 array of shape (n_out,)
        Subtracted from the activations.
    """

    weight: NDArray[np.float32]
    small: tuple[Any, ...] | None
    mean: NDArray[np.float32]


@njit(cache=True, nogil=True, forceinline=True)
def activations(x: Rows, layer: Hidden) -> Rows:
    """Compute the layer on sparse rows.

    Examples
    --------
    >>> x = Rows(np.array([0, 1]), np.zeros(1, np.int32), np.ones(1, np.float32), 1, False)
    >>> weight = np.array([[2, -2], [0, 0]], np.float32)
    >>> activations(x, Hidden(weight, None, np.ones(2, np.float32))).values[:2].tolist()
    [1.0, -1.0]
    """
    n, width = len(x.indptr) - 1, len(layer.mean)
    z = np.empty((n, width), np.float32)
    _multiply(x, layer.weight, layer.small, z)
    after, starts = activate(z), np.empty(n + 1, np.int64)
    for i in range(n):  # expressions of whole arrays take Numba 8 s more to compile
        for j in range(width):
            after[i, j] -= layer.mean[j]
    for i in range(n + 1):
        starts[i] = i * (width + 1)
    return Rows(starts, np.empty(0, np.int32), after.reshape(-1), width, True)


@njit(cache=True, nogil=True, forceinline=True)
def _multiply(
    x: Rows, weight: NDArray[np.float32], small: tuple[Any, ...] | None, out: NDArray[np.float32]
) -> None:
    """Multiply by full or small weights, out (n, n_out); Numba compiles what there is."""
    if small is None:
        sparse_product(x, weight, out)
    else:
        small_product(x, SmallRows(*small), out)


@njit(cache=True, nogil=True)
def activate(z: NDArray[np.float32]) -> NDArray[np.float32]:
    """ReLU of z (n, n_out), with the constant column."""
    n, width = z.shape
    after = np.empty((n, width + 1), np.float32)
    for i in range(n):
        for j in range(width):
            after[i, j] = np.float32(0) if z[i, j] <= 0 else z[i, j]  # NaN stays
        after[i, width] = BIAS_INPUT
    return after
