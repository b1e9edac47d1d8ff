"""Leave one out: how well centroids of labels rank examples that they do not hold.

What the start should be is seen before any training: 1,000 examples ask for their labels, and what
they are part of themselves does not count. Whatever is to be compared, such as how far few examples
are trusted, ranks the same labels in one pass over their examples.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from slidelearn.config import Config
from slidelearn.csr import count_ids, take_rows
from slidelearn.heap import offer
from slidelearn.layers import Pairs, examples_of
from slidelearn.metrics import RANKS, hits, sum_precisions
from slidelearn.rows import Rows, sparse_rows
from slidelearn.wide_block import Columns, columns_of
from slidelearn.workers import Workers, pieces

__all__ = [
    "USUAL_DOUBT",
    "Metrics",
    "asked_rows",
    "best_left_out",
    "first_as_good",
    "inverse_lengths",
    "rank_left_out",
    "trust",
]

USUAL_DOUBT = 3.0  # where nobody chose one
_EXAMPLES = 1000
# Of labels, each of which one thread ranks. Heaps fill up in each: with 16, choosing takes 0.86
# instead of 0.45 s on 27,000 passages.
_RANGES = 4


class Metrics(NamedTuple):
    """Ways to rank labels that are to be compared.

    Attributes
    ----------
    factors, scales : float32 arrays of shapes (d, n_metrics) and (n, n_metrics)
        By what a metric multiplies features and examples.
    doubts : tuple of float
        How far centroids of few examples are doubted; see `trust`.
    """

    factors: NDArray[np.float32]
    scales: NDArray[np.float32]
    doubts: tuple[float, ...]


class _Examples(NamedTuple):
    """All examples, and what each of m metrics makes of them.

    Feature f of example i counts ``factors[f]`` (m,) times ``scales[i]`` (m,).
    """

    x: Rows
    members: Pairs
    factors: NDArray[np.float32]
    scales: NDArray[np.float32]


class _Sample(NamedTuple):
    """Those of n examples that ask, by feature, values (nnz, m); squared lengths (n, m)."""

    columns: Columns
    values: NDArray[np.float32]
    squares: NDArray[np.float32]
    members: Pairs


class _Weights(NamedTuple):
    """By a label's number of examples: its share of a score, (n_doubts, most), and its bias."""

    shares: NDArray[np.float32]
    biases: NDArray[np.float32]


def trust(counts: NDArray[np.integer], doubt: float | None) -> NDArray[np.float32]:
    """Share of its length that a label with k examples, of counts (l,), starts with.

    A doubt that nobody chose is 3.

    Examples
    --------
    >>> trust(np.array([0, 1, 3]), 3.0).tolist(), trust(np.array([0, 1, 3]), 0.0).tolist()
    ([0.0, 0.25, 0.5], [0.0, 1.0, 1.0])
    """
    whole = np.maximum(
        counts + (USUAL_DOUBT if doubt is None else doubt), np.finfo(np.float32).tiny
    )
    shares: NDArray[np.float64] = counts / whole
    return shares.astype(np.float32)


def rank_left_out(
    X: csr_matrix,
    Y: csr_matrix,
    config: Config,
    workers: Workers,
    metrics: Metrics,
) -> NDArray[np.float64]:
    """Let 1,000 examples ask for their labels, by every metric and with every doubt.

    Parameters
    ----------
    X, Y : csr_matrix of shapes (n, d) and (n, n_labels)
        The examples and their labels.
    config : Config
        Centroids have the length ``wide``, or its usual one, ``prior`` is a part of the scores, and
        the seed draws the examples.
    workers : Workers
        Threads.
    metrics : Metrics
        What is to be compared.

    Returns
    -------
    float64 array of shape (n_metrics, n_doubts, n_asked)
        P@1, P@3 and P@5 of every example that asked, summed up.
    """
    rows = asked_rows(X.shape[0], config)
    labels, _ = best_left_out(X, Y, rows, config, workers, metrics, max(RANKS))
    y = take_rows(Y, rows)
    sums = [sum_precisions(hits(labels[:, v], y), axis=1) for v in range(labels.shape[1])]
    n_metrics, n_doubts = metrics.factors.shape[1], len(metrics.doubts)
    return np.array(sums).reshape(n_metrics, n_doubts, y.shape[0])


def asked_rows(n: int, config: Config) -> NDArray[np.int64]:
    """Which of n examples ask: at most 1,000, ascending; the seed draws them."""
    order = np.random.default_rng((config.seed, 5)).permutation(n)
    return np.sort(order[:_EXAMPLES])


def best_left_out(
    X: csr_matrix,
    Y: csr_matrix,
    rows: NDArray[np.int64],
    config: Config,
    workers: Workers,
    metrics: Metrics,
    k: int,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Find the k best labels of the examples that ask, ``rows`` of X and Y, and their scores.

    Both are of shape (n_asked, n_metrics * n_doubts, k), best first, -1 and -inf where there are
    fewer; see `rank_left_out`.
    """
    x, y = take_rows(X, rows), take_rows(Y, rows)
    counts, (factors, scales, doubts) = count_ids(Y.indices, Y.shape[1]), metrics
    examples = _Examples(sparse_rows(X), examples_of(Y), factors, scales)
    sample = _ask(x, examples_of(y), factors, scales[rows])
    weights = _weigh(int(counts.max(initial=0)), config.prior, doubts)
    length = np.float32(config.wide or Config.wide)
    shape = len(rows), factors.shape[1] * len(doubts), k

    def rank(first: int, last: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        keys, labels = np.full(shape, -np.inf, np.float32), np.full(shape, -1, np.int32)
        _rank(examples, sample, weights, length, (first, last), keys, labels)
        return keys, labels

    parts = workers.map(rank, pieces(Y.shape[1], -(-Y.shape[1] // _RANGES)))
    keys, labels = (np.concatenate(part, axis=2) for part in zip(*parts, strict=True))
    best = np.lexsort((labels, -keys))[:, :, :k]
    top = np.take_along_axis(labels, best, axis=2).astype(np.int64)
    return top, np.take_along_axis(keys, best, axis=2)


def first_as_good(sums: NDArray[np.float64]) -> int:
    """Which row of sums (n_choices, n) is the first as good as the best but for chance.

    The best has the largest total; another may miss two standard errors of the difference.

    Examples
    --------
    >>> first_as_good(np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]))
    0
    """
    behind = sums[np.argmax(sums.sum(axis=1))] - sums
    as_good = behind.sum(axis=1) <= 2 * behind.std(axis=1) * np.sqrt(sums.shape[1])
    return int(np.argmax(as_good))


def inverse_lengths(X: csr_matrix, factors: NDArray[np.float32]) -> NDArray[np.float32]:
    """One over the length of every example X (n, d) once factors (d, m) multiply it: (n, m).

    Examples
    --------
    >>> X = csr_matrix(np.array([[2, 0], [0, 0]], np.float32))
    >>> inverse_lengths(X, np.array([[1, 2], [1, 1]], np.float32)).tolist()
    [[0.5, 0.25], [0.0, 0.0]]
    """
    out = np.zeros((X.shape[0], factors.shape[1]), np.float32)
    _inverse_lengths(sparse_rows(X), factors, out)
    return out


@njit(cache=True, nogil=True)
def _inverse_lengths(x: Rows, factors: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Fill out (n, m)."""
    for i in range(len(out)):
        for e in range(x.indptr[i], x.indptr[i + 1]):
            for m in range(out.shape[1]):
                value = x.values[e] * factors[x.indices[e], m]
                out[i, m] += value * value
        for m in range(out.shape[1]):
            out[i, m] = 1 / np.sqrt(out[i, m]) if out[i, m] > 0 else 0


def _ask(
    x: csr_matrix, members: Pairs, factors: NDArray[np.float32], scales: NDArray[np.float32]
) -> _Sample:
    """Turn the examples x (n, d) that ask around, scales (n, m)."""
    columns = columns_of(x)
    features = np.repeat(np.flatnonzero(columns.numbers >= 0), np.diff(columns.indptr))
    values = columns.values[:, None] * factors[features] * scales[columns.examples]
    squares = np.zeros(scales.shape, np.float32)
    np.add.at(squares, columns.examples, values * values)
    return _Sample(columns, values, squares, members)


def _weigh(most: int, prior: float, doubts: tuple[float, ...]) -> _Weights:
    """Shares for each doubt and biases of labels with 0 to ``most`` examples."""
    numbers = np.arange(most + 1)
    logarithms = np.log(np.maximum(numbers, 1)).astype(np.float32)
    shares = np.stack([trust(numbers, doubt) for doubt in doubts])
    return _Weights(shares, np.float32(prior) * logarithms)


@njit(cache=True, nogil=True)
def _rank(
    known: _Examples,
    sample: _Sample,
    weights: _Weights,
    length: np.float32,
    ends: tuple[int, int],
    keys: NDArray[np.float32],
    labels: NDArray[np.int32],
) -> None:
    """Rank the labels between two ends for n examples, by every metric and with every doubt.

    Fills heaps keys, labels (n, n_metrics * n_doubts, k), label by label, since so its centroids,
    sums (d, n_metrics), are needed once.
    """
    (n, n_metrics), width = sample.squares.shape, keys.shape[2]
    (shares, biases), n_doubts = weights, len(weights.shares)
    sizes, least = np.zeros(keys.shape[:2], np.int64), np.full(keys.shape[:2], -np.inf, np.float32)
    floors = np.full((n, n_metrics), -np.inf, np.float32)  # least of all doubts: spares most keys
    sums = np.empty(known.factors.shape, np.float32)
    features, seen = np.empty(len(sums), np.int64), np.full(len(sums), -1)
    met, touched, mine = np.full(n, -1), np.empty(n, np.int64), np.full(n, -1)
    scores = np.empty((n, n_metrics), np.float32)
    for label in range(ends[0], ends[1]):
        n_features = _add_up(known, label, seen, features, sums)
        own = features[:n_features]
        n_touched = _multiply(sample, label, own, sums, met, touched, scores)
        for i in sample.members.neurons[
            sample.members.indptr[label] : sample.members.indptr[label + 1]
        ]:
            mine[i] = label
        norms = _square_sums(own, sums)
        most = np.float32(1.0001) * length * _inverse_roots(norms)
        size = known.members.indptr[label + 1] - known.members.indptr[label]
        for i in touched[:n_touched]:
            count = size - np.int64(mine[i] == label)
            wanted = mine[i] == label
            for m in range(n_metrics):
                wanted |= max(scores[i, m], np.float32(0)) * most[m] + biases[count] >= floors[i, m]
            if count == 0 or not wanted:
                continue
            for m in range(n_metrics):
                product, square = scores[i, m], norms[m]
                if mine[i] == label:
                    square += sample.squares[i, m] - 2 * product
                    product -= sample.squares[i, m]
                score = length * product / np.sqrt(square) if square > 0 else np.float32(0)
                floor = np.float32(np.inf)
                for d in range(n_doubts):
                    v, key = m * n_doubts + d, shares[d, count] * score + biases[count]
                    if key >= least[i, v]:
                        heap = keys[i, v], labels[i, v]
                        sizes[i, v] = offer(*heap, sizes[i, v], key, np.int64(label))
                        least[i, v] = keys[i, v, 0] if sizes[i, v] == width else least[i, v]
                    floor = min(floor, least[i, v])
                floors[i, m] = floor


@njit(cache=True, nogil=True)
def _add_up(
    known: _Examples,
    label: int,
    seen: NDArray[np.int64],
    features: NDArray[np.int64],
    sums: NDArray[np.float32],
) -> int:
    """Add up the examples of a label: sums (d, n_metrics) at its features; returns how many.

    ``seen`` (d,) holds the label that a feature was last met with.
    """
    size, (x, members, factors, scales) = 0, known
    for i in members.neurons[members.indptr[label] : members.indptr[label + 1]]:
        for e in range(x.indptr[i], x.indptr[i + 1]):
            f = x.indices[e]
            if seen[f] != label:
                seen[f], features[size] = label, f
                sums[f] = 0
                size += 1
            for m in range(sums.shape[1]):
                sums[f, m] += x.values[e] * factors[f, m] * scales[i, m]
    return size


@njit(cache=True, nogil=True)
def _multiply(
    sample: _Sample,
    label: int,
    own: NDArray[np.int64],
    sums: NDArray[np.float32],
    met: NDArray[np.int64],
    touched: NDArray[np.int64],
    scores: NDArray[np.float32],
) -> int:
    """Products of a label's sums (d, n_metrics) and the examples that ask, scores (n, n_metrics).

    Those that share one of its ``own`` features are listed in ``touched`` (n,); returns how many.
    ``met`` (n,) holds the label that an example was last met with.
    """
    size, columns = 0, sample.columns
    for f in own:
        k = columns.numbers[f]
        if k < 0:
            continue
        for e in range(columns.indptr[k], columns.indptr[k + 1]):
            i = columns.examples[e]
            if met[i] != label:
                met[i], touched[size] = label, i
                scores[i] = 0
                size += 1
            for m in range(sums.shape[1]):
                scores[i, m] += sums[f, m] * sample.values[e, m]
    return size


@njit(cache=True, nogil=True)
def _inverse_roots(squares: NDArray[np.float32]) -> NDArray[np.float32]:
    """One over the roots of squares (n_metrics,), 0 for 0."""
    out = np.zeros(len(squares), np.float32)
    for m in range(len(squares)):
        if squares[m] > 0:
            out[m] = 1 / np.sqrt(squares[m])
    return out


@njit(cache=True, nogil=True)
def _square_sums(features: NDArray[np.int64], sums: NDArray[np.float32]) -> NDArray[np.float32]:
    """Squared lengths (n_metrics,) of the sums (d, n_metrics) at some features."""
    out = np.zeros(sums.shape[1], np.float32)
    for f in features:
        for m in range(len(out)):
            out[m] += sums[f, m] * sums[f, m]
    return out
