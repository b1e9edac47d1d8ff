"""Selecting: the largest of many keys, by counting how many reach a bound.

To put every key where it belongs, as heaps and partitions do, is a guess for the processor each
time, and half of these are wrong; to count takes an instruction for several keys.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["keep_largest"]

_MANY = 8  # times as many keys as are wanted, from which on most are dropped first
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
    kept = np.int64(len(keys))
    if kept > _MANY * limit:
        kept = _drop_most(keys, ids, limit)
    if kept <= limit:
        return kept
    ranks = np.empty(kept, np.int64)
    _rank_keys(keys, ids, ranks)
    bound, at = _bound(ranks, limit), np.uint64(0)  # an index without a sign counts from the front
    for j in range(len(ranks)):
        keys[at], ids[at] = keys[j], ids[j]
        at += np.uint64(ranks[j] >= bound)
    return np.int64(at)


@njit(cache=True, nogil=True)
def _drop_most(keys: NDArray[np.float32], ids: NDArray[np.int32], limit: int) -> np.int64:
    """Drop keys below one that ``limit`` of them reach, as `keep_largest` does; say how many stay.

    Of 2 * limit classes of keys, by number modulo that, so many have a largest that reaches it.
    """
    largest = keys[: 2 * limit].copy()
    for start in range(len(largest), len(keys), len(largest)):
        part = keys[start : start + len(largest)]
        for c in range(len(part)):
            largest[c] = part[c] if part[c] > largest[c] else largest[c]
    ranks = np.empty(len(largest), np.int64)
    _rank_keys(largest, ids, ranks)
    bound, least, at = _bound(ranks, limit), np.float32(np.inf), np.uint64(0)
    for c in range(len(largest)):
        least = largest[c] if ranks[c] >= bound and largest[c] < least else least
    for j in range(len(keys)):
        key = keys[j]
        keys[at], ids[at] = key, ids[j]
        at += np.uint64(key >= least)
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
    """Find what ``limit`` of more ranks (n,) reach, or more of them if some are equal."""
    low, high = ranks[0], ranks[0]
    for rank in ranks:
        low, high = min(low, rank), max(high, rank)
    high += 1
    while high - low > 1:
        middle, count = (low + high) >> 1, 0
        for j in range(len(ranks)):
            count += ranks[j] >= middle
        if count == limit:
            return np.int64(middle)
        if count > limit:
            low = middle
        else:
            high = middle
    return np.int64(low)
