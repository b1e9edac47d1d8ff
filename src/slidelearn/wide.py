"""The wide path: a sparse weight wherever a feature and a label occur together in training.

The deep path blurs rare features in a few hundred hidden units; this path keeps them sharp.
Weights start at the centroid: the mean feature vector of a label's examples, scaled to one length.
In training, scores are computed for the pairs of an example and a label or retrieved neuron; see
`slidelearn.wide_block` for neurons that all examples of a batch share.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from slidelearn.csr import take_entries
from slidelearn.layers import Groups, Pairs, examples_of
from slidelearn.prefetching import LINE, prefetch, prefetch_beginning
from slidelearn.ranks import NO_RANKS, Ranks, find_rank, word_of
from slidelearn.rows import Rows, concatenate_indptr, sparse_rows
from slidelearn.scratch import check_room
from slidelearn.sorting import sort_ids

__all__ = [
    "Hits",
    "Wide",
    "add_pair_scores",
    "concatenate_hits",
    "count_features",
    "find_hits",
    "make_wide",
    "move_weight",
    "move_wide",
    "scale_labels",
    "take_hits",
]

# Squared gradient that a weight is taken to have seen before training: gradients are about 0.1,
# so steps are those of gradient descent until a weight has moved often. From 1e-6, which gives
# every first step the same length, rare features were learned by heart (P@1 50.4, with 1.0 51.7).
_ADAGRAD_START = 1.0
_AHEAD = 8  # pairs by which features are prefetched before they are read
_READ_ALL = 20  # entries of a label for each feature of an example up to which they are all read


class Wide(NamedTuple):
    """Sparse weights, label-major: label n has ``features[indptr[n] : indptr[n + 1]]``, ascending.

    Attributes
    ----------
    indptr : int64 array of shape (n_labels + 1,)
        Where each label's entries are.
    features : int32 array of shape (nnz,)
        Columns of the input.
    weights : float32 array of shape (nnz,)
        Their weights.
    squares : float32 array of shape (nnz,)
        Sum of squared gradients of each weight (Adagrad).
    """

    indptr: NDArray[np.int64]
    features: NDArray[np.int32]
    weights: NDArray[np.float32]
    squares: NDArray[np.float32]


class Hits(NamedTuple):
    """Which weights the pairs of a batch meet: those of pair p from ``indptr[p]`` on.

    Attributes
    ----------
    indptr : int64 array of shape (n_pairs + 1,)
        Where each pair's hits are.
    places : int64 array of shape (n_hits,)
        Entries of `Wide`.
    values : float32 array of shape (n_hits,)
        The example's features there.
    """

    indptr: NDArray[np.int64]
    places: NDArray[np.int64]
    values: NDArray[np.float32]


def make_wide(X: csr_matrix, Y: csr_matrix, length: float) -> tuple[Wide, NDArray[np.float32]]:
    """Start the wide path of labels Y (n, l) on features X (n, d) at centroids of one length.

    Returns
    -------
    Wide, float32 array of shape (l,)
        The path, and by how much every example was scaled before it was added to its labels.

    Examples
    --------
    >>> X = csr_matrix(np.array([[1, 0, 0], [0, 2, 0]], np.float32))
    >>> wide, own = make_wide(X, csr_matrix([[1, 0], [0, 1]]), 3.0)
    >>> wide.features.tolist(), wide.weights.tolist(), own.tolist()
    ([0, 1], [3.0, 3.0], [3.0, 1.5])
    """
    n_labels, x = Y.shape[1], sparse_rows(X)
    starts, examples = examples_of(Y)
    indptr = count_features(X, Y)
    features, weights = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], np.float32)
    squares = np.full(len(weights), _ADAGRAD_START, np.float32)
    wide, own = Wide(indptr, features, weights, squares), np.zeros(n_labels, np.float32)
    _fill_centroids(x, starts, examples, np.float32(length), wide, own)
    return wide, own


@njit(cache=True, nogil=True)
def scale_labels(wide: Wide, own: NDArray[np.float32], factors: NDArray[np.float32]) -> None:
    """Scale what `make_wide` made by a factor for each label, (n_labels,), in place."""
    for label in range(len(factors)):
        own[label] *= factors[label]
        wide.weights[wide.indptr[label] : wide.indptr[label + 1]] *= factors[label]


def count_features(X: csr_matrix, Y: csr_matrix) -> NDArray[np.int64]:
    """Count the distinct features of every label's examples; the running sum, (n_labels + 1,).

    Examples
    --------
    >>> count_features(csr_matrix([[1, 1, 0], [0, 1, 0]]), csr_matrix([[1, 0], [1, 1]])).tolist()
    [0, 2, 3]
    """
    indptr = np.zeros(Y.shape[1] + 1, np.int64)
    _count_features(sparse_rows(X), *examples_of(Y), indptr)
    np.cumsum(indptr, out=indptr)
    return indptr


@njit(cache=True, nogil=True)
def _count_features(
    x: Rows,
    starts: NDArray[np.int64],
    examples: NDArray[np.int32],
    counts: NDArray[np.int64],
) -> None:
    """Count the distinct features of every label's examples: counts[n + 1], (l + 1,)."""
    seen = np.full(x.width, -1, np.int32)
    for n in range(len(starts) - 1):
        for i in examples[starts[n] : starts[n + 1]]:
            for f in x.indices[x.indptr[i] : x.indptr[i + 1]]:
                if seen[f] != n:
                    seen[f] = n
                    counts[n + 1] += 1


@njit(cache=True, nogil=True)
def _fill_centroids(
    x: Rows,
    starts: NDArray[np.int64],
    examples: NDArray[np.int32],
    length: np.float32,
    wide: Wide,
    own: NDArray[np.float32],
) -> None:
    """Fill every label's features, ascending, and its centroid, scaled to the length."""
    seen = np.full(x.width, -1, np.int32)
    sums = np.zeros(x.width, np.float32)
    for n in range(len(starts) - 1):
        place = wide.indptr[n]
        for i in examples[starts[n] : starts[n + 1]]:
            for e in range(x.indptr[i], x.indptr[i + 1]):
                f = x.indices[e]
                if seen[f] != n:
                    seen[f] = n
                    sums[f] = 0
                    wide.features[place] = f
                    place += 1
                sums[f] += x.values[e]
        features = wide.features[wide.indptr[n] : wide.indptr[n + 1]]
        sort_ids(features)
        squares = np.float32(0)
        for f in features:
            squares += sums[f] * sums[f]
        own[n] = length / np.sqrt(squares) if squares > 0 else np.float32(0)
        for j in range(len(features)):
            wide.weights[wide.indptr[n] + j] = own[n] * sums[features[j]]


@njit(cache=True, nogil=True)
def find_hits(
    x: Rows, wide: Wide, pairs: Pairs, scratch: NDArray[np.float32], ranks: Ranks = NO_RANKS
) -> Hits:
    """Find the weights that pairs of an example of ``x`` and a label meet.

    All features of a label are read against the spread-out example; longer lists are searched, and
    of the longest, the ``ranks`` say at once what is where. Every place is written down, and the
    next one over it if the example does not meet it: a branch would be a guess each time, and took
    up to a third longer. ``scratch`` is (n_features,) or longer, zero before and after.

    Examples
    --------
    >>> from slidelearn.scratch import zeros
    >>> X = csr_matrix(np.array([[1, 0, 0], [0, 2, 5]], np.float32))
    >>> wide, _ = make_wide(X, csr_matrix([[1, 0], [0, 1]]), 3.0)
    >>> pairs = Pairs(np.array([0, 1, 2]), np.array([1, 1], np.int32))
    >>> hits = find_hits(sparse_rows(X), wide, pairs, zeros(3))
    >>> hits.indptr.tolist(), hits.places.tolist(), hits.values.tolist()
    ([0, 0, 2], [1, 2], [2.0, 5.0])
    """
    check_room(scratch, x.width)
    most, longest = 0, 0
    for i in range(len(pairs.indptr) - 1):
        n_own = x.indptr[i + 1] - x.indptr[i]
        longest = max(longest, n_own)
        for neuron in pairs.neurons[pairs.indptr[i] : pairs.indptr[i + 1]]:
            most += min(n_own, wide.indptr[neuron + 1] - wide.indptr[neuron])
    indptr = np.zeros(len(pairs.neurons) + 1, np.int64)
    places, values = np.empty(most + 1, np.int64), np.empty(most + 1, np.float32)
    at, found = np.uint64(0), np.empty(longest, np.int64)  # no sign: it counts from the front
    features, starts, neurons = wide.features, wide.indptr, pairs.neurons
    own, inputs, rows, ranked = x.indices, x.values, ranks.rows, len(ranks.rows) > 0
    words, n_words = ranks.words.reshape(-1), np.uint64(ranks.words.shape[1])
    for i in range(len(pairs.indptr) - 1):
        first, last = x.indptr[i], x.indptr[i + 1]
        for e in range(first, last):
            scratch[own[e]] = inputs[e]
        for p in range(pairs.indptr[i], pairs.indptr[i + 1]):
            if p + 2 * _AHEAD < len(neurons):
                prefetch(starts, neurons[p + 2 * _AHEAD])
                coming = neurons[p + _AHEAD]
                _prefetch_list(
                    features, starts[coming], starts[coming + 1], _READ_ALL * (last - first)
                )
            low, high = starts[neurons[p]], starts[neurons[p] + 1]
            row = rows[neurons[p]] if ranked else -1
            if ranked and p + 1 < pairs.indptr[i + 1]:
                row_ahead = rows[neurons[p + 1]]
                for e in range(first, last if row_ahead >= 0 else first):
                    prefetch(words, np.uint64(row_ahead) * n_words + word_of(own[e]))
            if row >= 0:
                for e in range(first, last):
                    rank, is_there = find_rank(ranks, row, own[e])
                    places[at], values[at] = low + rank, inputs[e]
                    at += np.uint64(is_there)
            elif high - low < _READ_ALL * (last - first):
                for place in range(np.uint64(low), np.uint64(high)):
                    value = scratch[np.uint32(features[place])]
                    places[at], values[at] = place, value
                    at += np.uint64(value != 0)
            else:
                _search(features, low, high, own, first, last, found)
                for k in range(last - first):
                    there, e = np.uint64(found[k]), first + k
                    places[at], values[at] = there, inputs[e]
                    at += np.uint64(features[there] == own[e])
            indptr[p + 1] = at
        for e in range(first, last):
            scratch[own[e]] = 0
    return Hits(indptr, places[:at], values[:at])


@njit(cache=True, nogil=True, forceinline=True)
def _prefetch_list(features: NDArray[np.int32], low: int, high: int, read_all: int) -> None:
    """Begin to load a list's first lines, or if it will be searched, where that looks first."""
    size = high - low
    if size < read_all:
        prefetch_beginning(features, low, high)
    else:
        for eighth in range(1, 8):
            prefetch(features, low + eighth * (size >> 3))


@njit(cache=True, nogil=True)
def _search(
    features: NDArray[np.int32],
    low: int,
    high: int,
    wanted: NDArray[np.int32],
    first: int,
    last: int,
    places: NDArray[np.int64],
) -> None:
    """Find where ascending features low to high, at least one, have wanted ones first to last.

    Or might have: places (longest,) are the last that are not above. All binary searches go on at
    once, without branches, so that they wait for memory together.
    """
    size, n = high - low, np.uint64(last - first)
    for k in range(n):
        places[k] = low
    while size > 1:
        half = size >> 1
        for k in range(n):
            below = features[np.uint64(places[k] + half - 1)] < wanted[np.uint64(first) + k]
            places[k] += half if below else 0
        size -= half


def take_hits(hits: Hits, pairs: NDArray[np.int64]) -> Hits:
    """Those of some pairs, (m,) places of them.

    Examples
    --------
    >>> hits = Hits(np.array([0, 1, 3]), np.array([5, 6, 7]), np.array([1, 2, 3], np.float32))
    >>> taken = take_hits(hits, np.array([1]))
    >>> taken.indptr.tolist(), taken.places.tolist(), taken.values.tolist()
    ([0, 2], [6, 7], [2.0, 3.0])
    """
    return Hits(*take_entries(hits.indptr, hits.places, hits.values, pairs))


def concatenate_hits(parts: list[Hits]) -> Hits:
    """Join the hits of the pieces of a batch."""
    indptr = concatenate_indptr([part.indptr for part in parts])
    places = np.concatenate([part.places for part in parts])
    return Hits(indptr, places, np.concatenate([part.values for part in parts]))


@njit(cache=True, nogil=True)
def add_pair_scores(wide: Wide, hits: Hits, out: NDArray[np.float32]) -> None:
    """Add the wide score of every pair to its logit, out (n_pairs,)."""
    for p in range(len(out)):
        score = np.float32(0)
        for e in range(hits.indptr[p], hits.indptr[p + 1]):
            if e + LINE < len(hits.places):
                prefetch(wide.weights, hits.places[e + LINE])
            score += wide.weights[np.uint64(hits.places[e])] * hits.values[e]
        out[p] += score


@njit(cache=True, nogil=True)
def move_weight(wide: Wide, place: int, gradient: np.float32, lr: float) -> None:
    """Adagrad on one weight."""
    wide.squares[place] += gradient * gradient
    wide.weights[place] -= np.float32(lr) * gradient / np.sqrt(wide.squares[place])


@njit(cache=True, nogil=True)
def move_wide(
    wide: Wide,
    groups: Groups,
    start: int,
    end: int,
    hits: Hits,
    deltas: NDArray[np.float32],
    lr: float,
) -> None:
    """Adagrad on the wide weights of groups start to end, one pair (n_pairs,) after the other.

    A group holds all pairs of one label, so no other task touches its weights.
    """
    for k in range(start, end):
        for p in groups.entries[groups.indptr[k] : groups.indptr[k + 1]]:
            for e in range(hits.indptr[p], hits.indptr[p + 1]):
                move_weight(wide, hits.places[e], deltas[p] * hits.values[e], lr)
