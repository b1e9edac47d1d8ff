"""Selecting: the largest of many keys, by counting how many reach a bound.

To put every key where it belongs, as heaps and partitions do, is a guess for the processor each
time, and half of these are wrong; to count takes an instruction for several keys.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["FULL", "keep_about", "keep_largest"]

FULL = 4  # times as many keys as are wanted, when who collects them drops all but the largest

_ID_BITS, _MOST = 31, 2**31 - 1
_SAMPLE = 256  # keys, at most, that say where a bound is


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
    n = keep_about(keys, ids, limit)
    if n <= limit:
        return np.int64(n)
    ranks = np.empty(n, np.int64)
    _rank_keys(keys, ids, ranks)
    bound, at = _bound(ranks, limit, limit), np.uint64(0)  # no sign: it counts from the front
    for j in range(n):
        keys[at], ids[at] = keys[j], ids[j]
        at += np.uint64(ranks[j] > bound)
    return np.int64(at)


@njit(cache=True, nogil=True)
def keep_about(keys: NDArray[np.float32], ids: NDArray[np.int32], limit: int) -> np.uint64:
    """Move the ``limit`` largest keys (n,), some more, and their ids to the front; say how many.

    A sample says which bound leaves about as many; if too few, all keys say.

    Examples
    --------
    >>> keys, ids = np.array([3, 1, 2, 5, 4], np.float32), np.arange(5, dtype=np.int32)
    >>> kept = keep_about(keys, ids, 2)
    >>> sorted(keys[:kept].tolist())[-2:], 3 in ids[:kept], 4 in ids[:kept]
    ([4.0, 5.0], True, True)
    """
    if len(keys) <= 2 * limit:
        return np.uint64(len(keys))
    places, sample = np.empty(len(keys), np.int32), keys[:: -(-len(keys) // _SAMPLE)]
    share = limit * len(sample) / len(keys)
    least = int(share + 2 * np.sqrt(share)) + 1
    n = _find_above(keys, _bound_of(sample, least, least + (least >> 1)), places)
    if n < limit:
        n = _find_above(keys, _bound_of(keys, limit, limit + (limit >> 1)), places)
    for k in range(n):
        place = np.uint32(places[k])
        keys[k], ids[k] = keys[place], ids[place]
    return n


@njit(cache=True, nogil=True)
def _find_above(keys: NDArray[np.float32], bound: np.int64, places: NDArray[np.int32]) -> np.uint64:
    """Find the places of the keys (n,) whose orders are above a bound; say how many."""
    bits, n, least = keys.view(np.int32), np.uint64(0), np.int32(bound)
    for j in range(np.uint64(len(bits))):
        places[n] = j
        n += np.uint64(_order(bits[j]) > least)
    return n


@njit(cache=True, nogil=True)
def _bound_of(keys: NDArray[np.float32], least: int, most: int) -> np.int64:
    """The `_bound` of the orders of keys (n,)."""
    orders = keys.copy().view(np.int32)
    for j in range(len(orders)):
        orders[j] = _order(orders[j])
    return _bound(orders, least, most)


@njit(cache=True, nogil=True, forceinline=True)
def _order(bits: np.int32) -> np.int32:
    """A whole number in the order of a key, from its bits.

    Bits of a float, as a whole number, order like it, but negative ones the other way round.
    """
    return bits ^ ((bits >> _ID_BITS) & _MOST)


@njit(cache=True, nogil=True)
def _rank_keys(keys: NDArray[np.float32], ids: NDArray[np.int32], ranks: NDArray[np.int64]) -> None:
    """Whole numbers (n,) in the order of keys, and of equals in that of falling ids."""
    bits = keys.view(np.int32)
    for j in range(len(ranks)):
        order = np.int64(_order(bits[j]))
        ranks[j] = (order << _ID_BITS) | (_MOST - ids[j])


@njit(cache=True, nogil=True)
def _bound(ranks: NDArray[np.int64] | NDArray[np.int32], least: int, most: int) -> np.int64:
    """Find what ``least`` to ``most`` of more ranks (n,) exceed, by halving the range.

    Where equal ones leave no such bound, the largest that as many exceed, or more.
    """
    lowest, highest = ranks[0], ranks[0]
    for j in range(len(ranks)):
        lowest, highest = min(lowest, ranks[j]), max(highest, ranks[j])
    low, high, at = np.int64(lowest) - 1, np.int64(highest), np.empty(1, ranks.dtype)
    while high - low > 1:
        middle, count = (low + high) >> 1, 0
        at[0] = middle
        bound = at[0]  # a number like the ranks, of which many are then compared at a time
        for j in range(len(ranks)):
            count += ranks[j] > bound
        if count >= least:
            low = middle
            if count <= most:
                break
        else:
            high = middle
    return np.int64(low)
