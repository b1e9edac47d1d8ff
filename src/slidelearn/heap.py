"""Heaps of scored ids: the best of many, in a fixed array, with the worst of them on top."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["offer"]


@njit(cache=True, nogil=True)
def _ranks_below(key: np.float32, label: int, other_key: np.float32, other_label: int) -> bool:
    """Whether an id ranks below another: a smaller key, or an equal one and a larger id."""
    return bool(key < other_key or (key == other_key and label > other_label))


@njit(cache=True, nogil=True)
def _rise(
    keys: NDArray[np.float32], labels: NDArray[np.int32], size: int, key: np.float32, label: int
) -> None:
    """Add an id to a heap of ``size`` with the smallest key on top; smaller ids stay longer."""
    child = size
    while child > 0:
        parent = (child - 1) >> 1
        if not _ranks_below(key, label, keys[parent], labels[parent]):
            break
        keys[child], labels[child] = keys[parent], labels[parent]
        child = parent
    keys[child], labels[child] = key, label


@njit(cache=True, nogil=True)
def _sink(
    keys: NDArray[np.float32], labels: NDArray[np.int32], size: int, key: np.float32, label: int
) -> None:
    """Put an id in the place of the smallest of a heap of ``size``."""
    parent = 0
    while True:
        child = 2 * parent + 1
        if child >= size:
            break
        if child + 1 < size and _ranks_below(
            keys[child + 1], labels[child + 1], keys[child], labels[child]
        ):
            child += 1
        if not _ranks_below(keys[child], labels[child], key, label):
            break
        keys[parent], labels[parent] = keys[child], labels[child]
        parent = child
    keys[parent], labels[parent] = key, label


@njit(cache=True, nogil=True)
def offer(
    keys: NDArray[np.float32], labels: NDArray[np.int32], size: int, key: np.float32, label: int
) -> int:
    """Let an id into a heap of ``size`` ids if it has room or a worse one; returns the new size."""
    if size < len(labels):
        _rise(keys, labels, size, key, label)
        return size + 1
    if size and _ranks_below(keys[0], labels[0], key, label):
        _sink(keys, labels, size, key, label)
    return size
