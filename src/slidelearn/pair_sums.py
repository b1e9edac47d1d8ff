"""Pair sums: what labels weigh for examples, by the features that both have.

Training writes down where these are, since it moves the weights there (`find_hits`). Predictions
need the sums only, and read lists as a whole, eight or sixteen features at a time: to look for
those that an example has took twice as long.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from slidelearn.layers import Pairs
from slidelearn.prefetching import LINE, prefetch
from slidelearn.ranks import NO_RANKS, Ranks
from slidelearn.rows import Rows
from slidelearn.scratch import check_room
from slidelearn.wide import Hits, Wide, add_pair_scores, find_hits

__all__ = ["add_sums"]

_AHEAD = 8  # pairs by which lists are prefetched before they are read
_BEGINNING = 4 * LINE  # entries of a list; 0.97 of the time that 8 lines of features alone took
# Features of a list for each of an example's up to which it is read as a whole. Twice as many or
# half as many make no difference where much is in the cache; for a single example, whose lists are
# not, a search reads less.
_WHOLE = 64


@njit(cache=True, nogil=True, forceinline=True)
def add_sums(
    x: Rows,
    path: Wide,
    beside: NDArray[np.float32],
    pairs: Pairs,
    scratch: NDArray[np.float32],
    sums: NDArray[np.float32],
    sums_beside: NDArray[np.float32],
    ranks: Ranks = NO_RANKS,
) -> None:
    """Add what pairs of an example of ``x`` and a label weigh by a path: sums (n_pairs,).

    And by other weights of the same features, (nnz,) or none: sums_beside (n_pairs,). ``scratch``
    is (n_features,) or longer, zero before and after.

    Examples
    --------
    >>> from slidelearn.scratch import zeros
    >>> path = Wide(np.array([0, 2]), np.array([0, 2], np.int32), *np.ones((2, 2), np.float32))
    >>> x = Rows(np.array([0, 1]), np.array([2], np.int32), np.array([3.0], np.float32), 3, False)
    >>> sums, others = np.zeros((2, 1), np.float32)
    >>> twos, pairs = 2 * path.weights, Pairs(np.array([0, 1]), np.array([0], np.int32))
    >>> add_sums(x, path, twos, pairs, zeros(3), sums, others)
    >>> sums.tolist(), others.tolist()
    ([3.0], [6.0])
    """
    check_room(scratch, x.width)
    starts, neurons, n_long = path.indptr, pairs.neurons, 0
    for i in range(len(pairs.indptr) - 1):
        first, last = x.indptr[i], x.indptr[i + 1]
        for e in range(first, last):
            scratch[x.indices[e]] = x.values[e]
        for p in range(pairs.indptr[i], pairs.indptr[i + 1]):
            if p + 2 * _AHEAD < len(neurons):
                prefetch(starts, neurons[p + 2 * _AHEAD])
                low, high = starts[neurons[p + _AHEAD]], starts[neurons[p + _AHEAD] + 1]
                for place in range(low, min(high, low + _BEGINNING), LINE):
                    prefetch(path.features, place)
                    prefetch(path.weights, place)
                    if len(beside) > 0:
                        prefetch(beside, place)
            low, high = starts[neurons[p]], starts[neurons[p] + 1]
            if high - low > _WHOLE * (last - first):
                n_long += 1
            elif len(beside) > 0:
                both = _multiply_both(path, beside, low, high, scratch)
                sums[p] += both[0]
                sums_beside[p] += both[1]
            else:
                sums[p] += _multiply(path, low, high, scratch)
        for e in range(first, last):
            scratch[x.indices[e]] = 0
    if n_long > 0:
        long, places = _find_long(x, starts, pairs, n_long)
        hits = find_hits(x, path, long, scratch, ranks)
        _add_hits(path, hits, places, sums)
        if len(beside) > 0:
            other = Wide(path.indptr, path.features, beside, path.squares)
            _add_hits(other, hits, places, sums_beside)


@njit(cache=True, nogil=True, forceinline=True, fastmath={"reassoc", "contract"})
def _multiply(path: Wide, low: int, high: int, values: NDArray[np.float32]) -> np.float32:
    """Sum up the weights low to high, times values (n_features,)."""
    total = np.float32(0)
    for q in range(np.uint64(low), np.uint64(high)):
        total += values[np.uint32(path.features[q])] * path.weights[q]
    return total


@njit(cache=True, nogil=True, forceinline=True, fastmath={"reassoc", "contract"})
def _multiply_both(
    path: Wide, beside: NDArray[np.float32], low: int, high: int, values: NDArray[np.float32]
) -> tuple[np.float32, np.float32]:
    """Likewise, and the weights beside them; one after the other took 1.4 times as long."""
    total, other = np.float32(0), np.float32(0)
    for q in range(np.uint64(low), np.uint64(high)):
        value = values[np.uint32(path.features[q])]
        total += value * path.weights[q]
        other += value * beside[q]
    return total, other


@njit(cache=True, nogil=True)
def _find_long(
    x: Rows, starts: NDArray[np.int64], pairs: Pairs, n_long: int
) -> tuple[Pairs, NDArray[np.int64]]:
    """Find the ``n_long`` pairs whose lists are searched, and which of all they are."""
    indptr, places = np.zeros(len(pairs.indptr), np.int64), np.empty(n_long, np.int64)
    at = 0
    for i in range(len(pairs.indptr) - 1):
        most = _WHOLE * (x.indptr[i + 1] - x.indptr[i])
        for p in range(pairs.indptr[i], pairs.indptr[i + 1]):
            neuron = pairs.neurons[p]
            if starts[neuron + 1] - starts[neuron] > most:
                places[at] = p
                at += 1
        indptr[i + 1] = at
    return Pairs(indptr, pairs.neurons[places]), places


@njit(cache=True, nogil=True)
def _add_hits(path: Wide, hits: Hits, places: NDArray[np.int64], sums: NDArray[np.float32]) -> None:
    """Add what hits of some pairs weigh, which have these places among the sums of all."""
    own = np.zeros(len(places), np.float32)
    add_pair_scores(path, hits, own)
    for k in range(len(places)):
        sums[places[k]] += own[k]
