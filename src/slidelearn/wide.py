"""The wide path: a sparse weight wherever a feature and a label occur together in training.

The deep path blurs rare features in a few hundred hidden units; this path keeps them sharp.
Weights start at the centroid: the mean feature vector of a label's examples, scaled to one length.
Only the pairs of an example and a label or retrieved neuron are computed in training; a neuron of
the uniform tail is taken to have none, which is nearly true and saves a lookup for each.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from slidelearn.layers import Groups, Pairs
from slidelearn.rows import Rows

__all__ = ["Wide", "add_all_scores", "add_pair_scores", "feature_major", "make_wide", "move_wide"]

_ADAGRAD_START = 1e-6


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


def make_wide(X: csr_matrix, Y: csr_matrix, scale: float) -> Wide:
    """Start the wide path of labels Y (n, l) on features X (n, d) at the scaled centroids.

    Examples
    --------
    >>> X = csr_matrix(np.array([[1, 0, 0], [0, 2, 0]], np.float32))
    >>> wide = make_wide(X, csr_matrix([[1, 0], [0, 1]]), scale=3.0)
    >>> wide.features.tolist(), wide.weights.tolist()
    ([0, 1], [3.0, 3.0])
    """
    n_labels, d = Y.shape[1], X.shape[1]
    by_label = csr_matrix((np.ones(Y.nnz, np.uint8), Y.indices, Y.indptr), shape=Y.shape).tocsc()
    examples = by_label.indices
    starts = by_label.indptr.astype(np.int64)
    indptr = np.zeros(n_labels + 1, np.int64)
    x = Rows(X.indptr.astype(np.int64), X.indices.astype(np.int32, copy=False), X.data, d, False)
    _count_features(x, starts, examples, indptr)
    np.cumsum(indptr, out=indptr)
    features = np.empty(indptr[-1], np.int32)
    weights = np.empty(indptr[-1], np.float32)
    _fill_centroids(x, starts, examples, np.float32(scale), indptr, features, weights)
    return Wide(indptr, features, weights, np.full(len(weights), _ADAGRAD_START, np.float32))


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
    scale: np.float32,
    indptr: NDArray[np.int64],
    features: NDArray[np.int32],
    weights: NDArray[np.float32],
) -> None:
    """Fill every label's features, ascending, and its centroid scaled to the length ``scale``."""
    seen = np.full(x.width, -1, np.int32)
    sums = np.zeros(x.width, np.float32)
    for n in range(len(starts) - 1):
        place = indptr[n]
        for i in examples[starts[n] : starts[n + 1]]:
            for e in range(x.indptr[i], x.indptr[i + 1]):
                f = x.indices[e]
                if seen[f] != n:
                    seen[f] = n
                    sums[f] = 0
                    features[place] = f
                    place += 1
                sums[f] += x.values[e]
        own = features[indptr[n] : indptr[n + 1]]
        own.sort()
        squares = np.float32(0)
        for f in own:
            squares += sums[f] * sums[f]
        factor = scale / np.sqrt(squares) if squares > 0 else np.float32(0)
        for j in range(len(own)):
            weights[indptr[n] + j] = factor * sums[own[j]]


@njit(cache=True, nogil=True)
def _find(features: NDArray[np.int32], feature: int, low: int, high: int) -> int:
    """First place in [low, high) whose feature is not smaller."""
    while low < high:
        middle = (low + high) >> 1
        if features[middle] < feature:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True, nogil=True)
def add_pair_scores(x: Rows, wide: Wide, pairs: Pairs, out: NDArray[np.float32]) -> None:
    """Add the wide score of every pair to its logit, out (n_pairs,).

    Both lists ascend, so each search starts where the last one ended.
    """
    for i in range(len(pairs.indptr) - 1):
        first, last = x.indptr[i], x.indptr[i + 1]
        for p in range(pairs.indptr[i], pairs.indptr[i + 1]):
            n = pairs.neurons[p]
            low, high, score = wide.indptr[n], wide.indptr[n + 1], np.float32(0)
            for e in range(first, last):
                low = _find(wide.features, x.indices[e], low, high)
                if low == high:
                    break
                if wide.features[low] == x.indices[e]:
                    score += wide.weights[low] * x.values[e]
            out[p] += score


@njit(cache=True, nogil=True)
def move_wide(
    x: Rows,
    wide: Wide,
    groups: Groups,
    start: int,
    end: int,
    examples: NDArray[np.int64],
    deltas: NDArray[np.float32],
    lr: float,
) -> None:
    """Adagrad on the wide weights of groups start to end, one pair (n_pairs,) after the other.

    A group holds all pairs of one label, so no other task touches its weights.
    """
    for k in range(start, end):
        n = groups.rows[k]
        for p in groups.entries[groups.indptr[k] : groups.indptr[k + 1]]:
            i, low, high = examples[p], wide.indptr[n], wide.indptr[n + 1]
            for e in range(x.indptr[i], x.indptr[i + 1]):
                low = _find(wide.features, x.indices[e], low, high)
                if low == high:
                    break
                if wide.features[low] == x.indices[e]:
                    gradient = deltas[p] * x.values[e]
                    wide.squares[low] += gradient * gradient
                    wide.weights[low] -= np.float32(lr) * gradient / np.sqrt(wide.squares[low])


def feature_major(wide: Wide, n_features: int) -> csr_matrix:
    """Turn the weights around to (n_features, n_labels), for scores of all labels."""
    shape = (len(wide.indptr) - 1, n_features)
    label_major = csr_matrix((wide.weights, wide.features, wide.indptr), shape=shape)
    turned = label_major.tocsc().T
    turned.indptr = turned.indptr.astype(np.int64)
    return turned


@njit(cache=True, nogil=True)
def add_all_scores(
    x: Rows,
    indptr: NDArray[np.int64],
    labels: NDArray[np.int32],
    weights: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Add the wide scores of all labels to logits (n, l); the weights are feature-major."""
    for i in range(len(x.indptr) - 1):
        for e in range(x.indptr[i], x.indptr[i + 1]):
            value = x.values[e]
            for q in range(indptr[x.indices[e]], indptr[x.indices[e] + 1]):
                out[i, labels[q]] += value * weights[q]
