"""Selecting: the largest of many keys, by counting how many reach a bound.

To put every key where it belongs, as heaps and partitions do, is a guess for the processor each
time, and half of these are wrong; to count takes an instruction for several keys.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["FULL", "keep_largest"]

FULL = 4  # times as many keys as are wanted, when who collects them drops all but the largest

_ID_BITS = 31


@njit(cache=True, nogil=True)
def keep_largest(keys: NDArray[np.float32], ids: NDArray[np.int32], limit: int) -> np.int64:
    """Move the largest keys (n,), and their ids (n,) or longer, to the front; say how many.

    These are ``limit``, at least 1, or all. They stay in order; of equals the smaller ids are kept.

    Examples
    --------
    >>> keys, ids = np.array([3, 1, 2, 2], np.float32), np.array([5, 6, 8, 7], np.int32)
    >>> keep_largest(keys, ids, 2), keys[:2].tolist(), ids[:2].tolist()
    (2, [3.0, 2.0], [5, 7])
    """
    if len(keys) <= limit:
        return np.int64(len(keys))
    ranks = np.empty(len(keys), np.int64)
    _rank_keys(keys, ids, ranks)
    bound, at = _bound(ranks, limit), np.uint64(0)  # an index without a sign counts from the front
    for j in range(len(ranks)):
        keys[at], ids[at] = keys[j], ids[j]
        at += np.uint64(ranks[j] > bound)
    return np.int64(at)


@njit(cache=True, nogil=True)
def _rank_keys(keys: NDArray[np.float32], ids: NDArray[np.int32], ranks: NDArray[np.int64]) -> None:
    """Whole numbers (n,) in the order of keys, and of equals in that of falling ids.

    Bits of a float, as a whole number, order like it, but negative ones the other way round.
    """
    most = 2**_ID_BITS - 1
    bits = keys.view(np.int32)
    for j in range(len(ranks)):
        order = np.int64(bits[j])
        order ^= (order >> _ID_BITS) & most
        ranks[j] = (order << _ID_BITS) | (most - ids[j])


@njit(cache=True, nogil=True)
def _bound(ranks: NDArray[np.int64], limit: int) -> np.int64:
    """Find what ``limit`` of more distinct ranks (n,) exceed, by halving the range."""
    low, high = ranks[0], ranks[0]
    for rank in ranks:
        low, high = min(low, rank), max(high, rank)
    low -= 1
    while high - low > 1:
        middle, count = (low + high) >> 1, 0
        for j in range(len(ranks)):
            count += ranks[j] > middle
        if count == limit:
            return np.int64(middle)
        if count > limit:
            low = middle
        else:
            high = middle
    return np.int64(low)
