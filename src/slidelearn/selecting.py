"""Selecting: the largest of many keys, by counting how many reach a bound.

To put every key where it belongs, as heaps and partitions do, is a guess for the processor each
time, and half of these are wrong; to count takes an instruction for several keys.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from slidelearn.masks import IN_MASK, above, lowest, order_of

__all__ = ["FULL", "keep_about", "keep_largest"]

FULL = 4  # times as many keys as are wanted, when who collects them drops all but the largest

_ID_BITS, _MOST = 31, 2**31 - 1
_SAMPLE = 256  # keys, at most, that say where a bound is


@njit(cache=True, nogil=True)
def keep_largest(
    keys: NDArray[np.float32], ids: NDArray[np.int32], n: int | np.int64, limit: int
) -> np.int64:
    """Move the largest of the first n keys, and their ids, to the front; say how many.

    These are ``limit``, at least 1, or all. They stay in order; of equals the smaller ids are kept.

    Examples
    --------
    >>> keys, ids = np.array([3, 1, 2, 2], np.float32), np.array([5, 6, 8, 7], np.int32)
    >>> keep_largest(keys, ids, 4, 2), keys[:2].tolist(), ids[:2].tolist()
    (2, [3.0, 2.0], [5, 7])
    """
    n = keep_about(keys, ids, n, limit)
    if n <= limit:
        return np.int64(n)
    ranks = np.empty(n, np.int64)
    for j in range(n):  # whole numbers in the order of keys, and of equals in that of falling ids
        ranks[j] = (np.int64(order_of(keys[j])) << _ID_BITS) | (_MOST - ids[j])
    bound, at = _bound(ranks, limit, limit), np.uint64(0)  # no sign: it counts from the front
    for j in range(n):
        keys[at], ids[at] = keys[j], ids[j]
        at += np.uint64(ranks[j] > bound)
    return np.int64(at)


@njit(cache=True, nogil=True)
def keep_about(
    keys: NDArray[np.float32], ids: NDArray[np.int32], n: int | np.int64, limit: int
) -> np.int64:
    """Move the ``limit`` largest of the first n keys, some more, and their ids to the front.

    Says how many. A sample says which bound leaves about as many; if too few, all keys say.

    Examples
    --------
    >>> keys, ids = np.array([3, 1, 2, 5, 4], np.float32), np.arange(5, dtype=np.int32)
    >>> kept = keep_about(keys, ids, 5, 2)
    >>> sorted(keys[:kept].tolist())[-2:], 3 in ids[:kept], 4 in ids[:kept]
    ([4.0, 5.0], True, True)
    """
    if n <= 2 * limit:
        return np.int64(n)
    places, step = np.empty(n, np.int32), -(-n // _SAMPLE)
    share = limit / step
    least = int(share + 2 * np.sqrt(share)) + 1
    kept = _find_above(keys, _bound_of(keys, n, step, least, least + (least >> 1)), places)
    if kept < limit:
        kept = _find_above(keys, _bound_of(keys, n, 1, limit, limit + (limit >> 1)), places)
    for k in range(kept):
        place = np.uint32(places[k])
        keys[k], ids[k] = keys[place], ids[place]
    return np.int64(kept)


@njit(cache=True, nogil=True)
def _find_above(keys: NDArray[np.float32], bound: np.int64, places: NDArray[np.int32]) -> np.uint64:
    """Find the places of keys, the first of them, (n,), whose orders are above a bound.

    Says how many; the others of ``places`` (n,) mean nothing.
    """
    n, least, whole = np.uint64(0), np.int32(bound), len(places) // IN_MASK * IN_MASK
    for start in range(0, whole, IN_MASK):
        mask = above(keys, start, least)
        while mask != 0:
            places[n] = start + lowest(mask)
            n += np.uint64(1)
            mask &= mask - np.uint64(1)
    for j in range(whole, len(places)):
        places[n] = j
        n += np.uint64(order_of(keys[j]) > least)
    return n


@njit(cache=True, nogil=True)
def _bound_of(
    keys: NDArray[np.float32], n: int | np.int64, step: int | np.int64, least: int, most: int
) -> np.int64:
    """The `_bound` of the orders of every so many of the first n keys."""
    orders = np.empty(-(-n // step), np.int32)
    for j in range(len(orders)):
        orders[j] = order_of(keys[j * step])
    return _bound(orders, least, most)


@njit(cache=True, nogil=True)
def _bound(ranks: NDArray[np.int64] | NDArray[np.int32], least: int, most: int) -> np.int64:
    """Find what ``least`` to ``most`` of more ranks (n,) exceed, by halving the range.

    Where equal ones leave no such bound, the largest that as many exceed, or more.
    """
    lowest, highest = ranks[0], ranks[0]
    for j in range(len(ranks)):
        lowest, highest = min(lowest, ranks[j]), max(highest, ranks[j])
    low, high = np.int64(lowest) - 1, np.int64(highest)
    while high - low > 1:
        middle, count = (low + high) >> 1, 0
        bound = ranks.dtype.type(middle)  # like the ranks, many of which are compared at a time
        for j in range(len(ranks)):
            count += ranks[j] > bound
        if count >= least:
            low = middle
            if count <= most:
                break
        else:
            high = middle
    return np.int64(low)
