"""Doubt: how far centroids of few examples are to be trusted, chosen on the training data.

A label with k examples starts with k / (k + doubt) of its length. Where rare labels are many and
seldom right, as among the functions that a function calls, these must stand back (P@1 on 40,000 of
the calls with a doubt of 3, 1 and 0.3: 31.8, 31.0 and 29.7). Where all labels have two to five
examples each, they must not (77,180 functions: 29.6, 32.4, 36.1 and, with none, 38.3). What holds
is seen at the start already, by examples that are left out of the centroids of their labels.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from slidelearn.config import Config
from slidelearn.csr import take_rows
from slidelearn.heap import offer
from slidelearn.layers import Pairs, examples_of
from slidelearn.metrics import RANKS, hits, sum_precisions
from slidelearn.wide import Columns, Wide, columns_of
from slidelearn.workers import Workers, pieces

__all__ = ["Centroids", "choose_doubt", "trust"]

_USUAL = 3.0  # where there is no wide path to choose by
_DOUBTS = (_USUAL, 1.0, 0.3, 0.0)
_EXAMPLES = 1000
_RANGES = 16  # of labels, each of which one thread ranks


class Centroids(NamedTuple):
    """Centroids of all labels.

    Attributes
    ----------
    wide : Wide
        What they weigh.
    own : float32 array of shape (n_labels,)
        By how much an example was scaled before it was added to its labels.
    counts : int64 array of shape (n_labels,)
        Examples of every label.
    length : float
        That of all of them.
    """

    wide: Wide
    own: NDArray[np.float32]
    counts: NDArray[np.int64]
    length: float


def trust(counts: NDArray[np.integer], doubt: float | None) -> NDArray[np.float32]:
    """Share of its length that a label with k examples, of counts (l,), starts with.

    A doubt that nobody chose is 3.

    Examples
    --------
    >>> trust(np.array([0, 1, 3]), 3.0).tolist(), trust(np.array([0, 1, 3]), 0.0).tolist()
    ([0.0, 0.25, 0.5], [0.0, 1.0, 1.0])
    """
    whole = np.maximum(counts + (_USUAL if doubt is None else doubt), np.finfo(np.float32).tiny)
    shares: NDArray[np.float64] = counts / whole
    return shares.astype(np.float32)


def choose_doubt(
    centroids: Centroids, X: csr_matrix, Y: csr_matrix, config: Config, workers: Workers
) -> float:
    """Choose the doubt by which 1,000 examples best find their labels without being part of them.

    Parameters
    ----------
    centroids : Centroids
        Of these examples.
    X, Y : csr_matrix of shapes (n, d) and (n, n_labels)
        The examples, scaled as in training, and their labels.
    config : Config
        Its ``prior`` is a part of the scores, its seed draws the examples.
    workers : Workers
        Threads.

    Returns
    -------
    float
        The first of 3, 1, 0.3 and 0 whose mean of P@1, P@3 and P@5 is the largest, but for two
        standard errors of the difference.
    """
    order = np.random.default_rng((config.seed, 5)).permutation(X.shape[0])
    rows = np.sort(order[:_EXAMPLES])
    x, y = take_rows(X, rows), take_rows(Y, rows)
    squares = np.asarray(x.multiply(x).sum(axis=1), np.float32).ravel()
    sample = _Sample(columns_of(x), squares, examples_of(y))
    weights = _weigh(int(centroids.counts.max(initial=0)), config.prior)

    def rank(first: int, last: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        shape = len(_DOUBTS), len(rows), max(RANKS)
        keys, labels = np.full(shape, -np.inf, np.float32), np.full(shape, -1, np.int32)
        _rank(centroids, sample, weights, (first, last), keys, labels)
        return keys, labels

    parts = workers.map(rank, pieces(Y.shape[1], -(-Y.shape[1] // _RANGES)))
    keys, labels = (np.concatenate(part, axis=2) for part in zip(*parts, strict=True))
    best = np.lexsort((labels, -keys))[:, :, : max(RANKS)]
    found = [hits(top, y) for top in np.take_along_axis(labels, best, axis=2).astype(np.int64)]
    sums = np.array([sum_precisions(hit, axis=1) for hit in found])
    behind = sums[np.argmax(sums.sum(axis=1))] - sums
    as_good = behind.sum(axis=1) <= 2 * behind.std(axis=1) * np.sqrt(len(rows))
    return _DOUBTS[int(np.argmax(as_good))]


class _Sample(NamedTuple):
    """Examples by feature, (n, d), their squared lengths, (n,), and those that a label has."""

    columns: Columns
    squares: NDArray[np.float32]
    members: Pairs


class _Weights(NamedTuple):
    """By a label's number of examples: its share of a score, (n_doubts, most), and its bias."""

    shares: NDArray[np.float32]
    biases: NDArray[np.float32]


def _weigh(most: int, prior: float) -> _Weights:
    """Shares for each doubt and biases of labels with 0 to ``most`` examples."""
    numbers = np.arange(most + 1)
    logarithms = np.log(np.maximum(numbers, 1)).astype(np.float32)
    shares = np.stack([trust(numbers, doubt) for doubt in _DOUBTS])
    return _Weights(shares, np.float32(prior) * logarithms)


@njit(cache=True, nogil=True)
def _rank(
    centroids: Centroids,
    sample: _Sample,
    weights: _Weights,
    ends: tuple[int, int],
    keys: NDArray[np.float32],
    labels: NDArray[np.int32],
) -> None:
    """Rank the labels between two ends for n examples, by the weights of each doubt.

    Fills heaps keys, labels (n_doubts, n, k), label by label, since so its weights are read once.
    """
    (wide, own, counts, length), (columns, squares, members) = centroids, sample
    (_, n, _), (shares, biases) = labels.shape, weights
    sizes, least = np.zeros(labels.shape[:2], np.int64), np.full(labels.shape[:2], -np.inf)
    met, touched, scores = np.full(n, -1), np.empty(n, np.int64), np.empty(n, np.float32)
    mine = np.full(n, -1)
    for label in range(ends[0], ends[1]):
        n_touched = 0
        for j in range(wide.indptr[label], wide.indptr[label + 1]):
            feature, weight = wide.features[j], wide.weights[j]
            for e in range(columns.indptr[feature], columns.indptr[feature + 1]):
                i = columns.examples[e]
                if met[i] != label:
                    met[i], scores[i], touched[n_touched] = label, 0, i
                    n_touched += 1
                scores[i] += weight * columns.values[e]
        for i in members.neurons[members.indptr[label] : members.indptr[label + 1]]:
            if met[i] == label:
                mine[i] = label
                scores[i] = _without(scores[i], own[label], squares[i], length)
        for i in touched[:n_touched]:
            count = counts[label] - int(mine[i] == label)
            if count == 0:
                continue
            for d in range(len(shares)):
                key = shares[d, count] * scores[i] + biases[count]
                if key >= least[d, i]:
                    heap = keys[d, i], labels[d, i]
                    sizes[d, i] = offer(*heap, sizes[d, i], key, np.int64(label))
                    least[d, i] = keys[d, i].min()


@njit(cache=True, nogil=True)
def _without(score: float, own: float, square: float, length: float) -> np.float32:
    """Score of an example of this squared length with the centroid of its label's other ones."""
    if own == 0:
        return np.float32(0)
    product, norm = score / own, length / own
    rest = norm * norm - 2 * product + square
    return np.float32(length * (product - square) / np.sqrt(rest) if rest > 0 else 0.0)
