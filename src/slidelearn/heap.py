"""The best of many scored ids, in fixed arrays: heaps with the worst on top, and ranked lists."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["heapify", "insert", "offer", "rank", "sink"]


@njit(cache=True, nogil=True)
def _ranks_below(
    key: np.float32, label: int | np.int64, other_key: np.float32, other_label: int | np.int64
) -> bool:
    """Whether an id ranks below another: a smaller key, or an equal one and a larger id."""
    return bool(key < other_key or (key == other_key and label > other_label))


@njit(cache=True, nogil=True)
def _rise(
    keys: NDArray[np.float32],
    labels: NDArray[np.int32],
    size: np.int64,
    key: np.float32,
    label: int | np.int64,
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
def sink(
    keys: NDArray[np.float32],
    labels: NDArray[np.int32],
    size: np.int64,
    key: np.float32,
    label: int | np.int64,
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


@njit(cache=True, nogil=True, forceinline=True)
def offer(
    keys: NDArray[np.float32],
    labels: NDArray[np.int32],
    size: np.int64,
    key: np.float32,
    label: int | np.int64,
) -> np.int64:
    """Let an id into a heap of ``size`` ids if it has room or a worse one; returns the new size.

    Callers pass np.int64 for ``size`` and ``label``: Numba compiles heaps anew for every other kind
    of integer, literals too. Most ids stay out, and to call it for these took a sixth of a lookup.
    """
    if size < len(labels):
        _rise(keys, labels, size, key, label)
        return size + 1
    if size and _ranks_below(keys[0], labels[0], key, label):
        sink(keys, labels, size, key, label)
    return size


@njit(cache=True, nogil=True)
def heapify(keys: NDArray[np.float32], labels: NDArray[np.int32]) -> None:
    """Put ids in the order of a heap, in place: the smallest key on top."""
    for size in range(len(keys)):
        _rise(keys, labels, np.int64(size), keys[size], np.int64(labels[size]))


@njit(cache=True, nogil=True)
def rank(keys: NDArray[np.float32], labels: NDArray[np.int32]) -> None:
    """Put ids in the order of their keys, in place: the largest first, the smaller id of equals."""
    heapify(keys, labels)
    for size in range(len(keys) - 1, 0, -1):
        key, label = keys[size], labels[size]
        keys[size], labels[size] = keys[0], labels[0]
        sink(keys, labels, np.int64(size), key, np.int64(label))


@njit(cache=True, nogil=True)
def insert(
    labels: NDArray[np.int64], scores: NDArray[np.float32], label: int | np.int64, score: np.float32
) -> None:
    """Insert a label that beats the last of the best (k,) where it belongs."""
    place = len(labels) - 1
    while place > 0 and (
        labels[place - 1] < 0
        or score > scores[place - 1]
        or (score == scores[place - 1] and label < labels[place - 1])
    ):
        labels[place], scores[place] = labels[place - 1], scores[place - 1]
        place -= 1
    labels[place], scores[place] = label, score
