"""Leave one out: how well centroids of labels rank examples that they do not hold.

What the start should be is seen before any training: some examples ask for their labels, and what
they are part of themselves does not count. Whatever is to be compared, such as how far few examples
are trusted, ranks the same labels in one pass over their examples.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from slidelearn.config import Config
from slidelearn.csr import count_ids, keep_entries, take_rows
from slidelearn.layers import Pairs, examples_of
from slidelearn.left_out_ranks import Examples, Sample, Weights, no_labels, rank_labels
from slidelearn.metrics import RANKS, hits, sum_precisions
from slidelearn.rows import Rows, sparse_rows
from slidelearn.weighting import raise_values, raised
from slidelearn.wide_block import columns_of
from slidelearn.workers import Workers, pieces

__all__ = [
    "USUAL_DOUBT",
    "Metrics",
    "as_good",
    "asked_rows",
    "best_left_out",
    "inverse_lengths",
    "plain_metric",
    "rank_left_out",
    "trust",
]

USUAL_DOUBT = 3.0  # where nobody chose one
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
    power : float
        What values of features are raised to before they are multiplied.
    ignored : float
        The smallest features of an example do not ask, up to this share of its squared length by
        every metric. They are what most labels have: a tenth of the length is half of the work.
    """

    factors: NDArray[np.float32]
    scales: NDArray[np.float32]
    doubts: tuple[float, ...]
    power: float = 1.0
    ignored: float = 0.0


def plain_metric(shape: tuple[int, int], doubt: float) -> Metrics:
    """One metric that takes features and examples X, of a shape (n, d), as they are."""
    scales, factors = (np.ones((size, 1), np.float32) for size in shape)
    return Metrics(factors, scales, (doubt,))


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
    rows: NDArray[np.int64],
    config: Config,
    workers: Workers,
    metrics: Metrics,
) -> NDArray[np.float64]:
    """Let examples ask for their labels, by every metric and with every doubt.

    Parameters
    ----------
    X, Y : csr_matrix of shapes (n, d) and (n, n_labels)
        The examples and their labels.
    rows : int64 array of shape (n_asked,)
        Which of them ask.
    config : Config
        Centroids have the length ``wide``, or its usual one, and ``prior`` is a part of the scores.
    workers : Workers
        Threads.
    metrics : Metrics
        What is to be compared.

    Returns
    -------
    float64 array of shape (n_metrics, n_doubts, n_asked)
        P@1, P@3 and P@5 of every example that asked, summed up.
    """
    labels, _ = best_left_out(X, Y, rows, config, workers, metrics, max(RANKS))
    y = take_rows(Y, rows)
    sums = [sum_precisions(hits(labels[:, v], y), axis=1) for v in range(labels.shape[1])]
    n_metrics, n_doubts = metrics.factors.shape[1], len(metrics.doubts)
    return np.array(sums).reshape(n_metrics, n_doubts, y.shape[0])


def asked_rows(n: int, most: int, config: Config) -> NDArray[np.int64]:
    """Which of n examples ask: so many at most, ascending; the seed draws them."""
    order = np.random.default_rng((config.seed, 5)).permutation(n)
    return np.sort(order[:most])


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
    fewer labels that other examples have; see `rank_left_out`.
    """
    counts, (factors, scales, doubts, power, _) = count_ids(Y.indices, Y.shape[1]), metrics
    examples = Examples(sparse_rows(X), examples_of(Y), factors, scales, power)
    sample = _ask(X, rows, examples_of(take_rows(Y, rows)), metrics)
    weights = _weigh(int(counts.max(initial=0)), config.prior, doubts)
    length = np.float32(config.wide or Config.wide)
    lanes, n_heaps = (0,) * factors.shape[1], factors.shape[1] * len(doubts)

    def rank(first: int, last: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        best = no_labels(len(rows), len(lanes), n_heaps, k)
        rank_labels(examples, sample, weights, length, (first, last), lanes, best)
        return best.keys, best.labels

    parts = workers.map(rank, pieces(Y.shape[1], -(-Y.shape[1] // _RANGES)))
    keys, labels = (np.concatenate(part, axis=2) for part in zip(*parts, strict=True))
    best = np.lexsort((labels, -keys))[:, :, :k]
    top = np.take_along_axis(labels, best, axis=2).astype(np.int64)
    return top, np.take_along_axis(keys, best, axis=2)


def as_good(sums: NDArray[np.float64], errors: float = 2.0) -> NDArray[np.int64]:
    """Which rows of sums (n_choices, n) are as good as the best but for chance, ascending.

    The best has the largest total; others may miss so many standard errors of the difference.

    Examples
    --------
    >>> as_good(np.array([[0.0, 1.0, 1.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])).tolist()
    [0, 2]
    """
    behind = sums[np.argmax(sums.sum(axis=1))] - sums
    return np.flatnonzero(
        behind.sum(axis=1) <= errors * behind.std(axis=1) * np.sqrt(sums.shape[1])
    )


def inverse_lengths(
    X: csr_matrix, factors: NDArray[np.float32], power: float = 1.0
) -> NDArray[np.float32]:
    """One over the length of every example X (n, d), raised and multiplied by factors: (n, m).

    Examples
    --------
    >>> X = csr_matrix(np.array([[2, 0], [0, 0]], np.float32))
    >>> inverse_lengths(X, np.array([[1, 2], [1, 1]], np.float32)).tolist()
    [[0.5, 0.25], [0.0, 0.0]]
    """
    out = np.zeros((X.shape[0], factors.shape[1]), np.float32)
    _inverse_lengths(sparse_rows(X), factors, power, out)
    return out


@njit(cache=True, nogil=True)
def _inverse_lengths(
    x: Rows, factors: NDArray[np.float32], power: float, out: NDArray[np.float32]
) -> None:
    """Fill out (n, m)."""
    for i in range(len(out)):
        for e in range(x.indptr[i], x.indptr[i + 1]):
            value = raised(x.values[e], power)
            for m in range(out.shape[1]):
                weighted = value * factors[x.indices[e], m]
                out[i, m] += weighted * weighted
        for m in range(out.shape[1]):
            out[i, m] = 1 / np.sqrt(out[i, m]) if out[i, m] > 0 else 0


def _ask(X: csr_matrix, rows: NDArray[np.int64], members: Pairs, metrics: Metrics) -> Sample:
    """Turn the examples ``rows`` of X (n, d) around, without the features that do not ask."""
    x = take_rows(X, rows)
    raise_values(x.data, metrics.power)
    columns = columns_of(_largest(x, metrics.factors, metrics.ignored))
    features = np.repeat(np.flatnonzero(columns.numbers >= 0), np.diff(columns.indptr))
    scales = metrics.scales[rows]
    values = columns.values[:, None] * metrics.factors[features] * scales[columns.examples]
    squares = np.zeros(scales.shape, np.float32)
    np.add.at(squares, columns.examples, values * values)
    return Sample(rows, columns, values, squares, members)


def _largest(x: csr_matrix, factors: NDArray[np.float32], ignored: float) -> csr_matrix:
    """Examples x (n, d) without their smallest features, which have a share of the squared length.

    Features are in the order of the largest share that they have by any metric, factors (d, m).
    """
    if not ignored:
        return x
    n, row = x.shape[0], np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))
    squares = (x.data[:, None] * factors[x.indices]).astype(np.float64) ** 2
    whole = np.zeros((n, factors.shape[1]))
    np.add.at(whole, row, squares)
    shares = np.divide(squares, whole[row], out=np.zeros_like(squares), where=whole[row] > 0)
    order = np.lexsort((shares.max(axis=1), row))
    sums = np.cumsum(shares[order], axis=0)
    before = np.concatenate([np.zeros((1, shares.shape[1])), sums])[x.indptr[:-1]]
    kept = np.empty(x.nnz, bool)
    kept[order] = (sums - before[row]).max(axis=1, initial=0) > ignored
    return keep_entries(x, kept)


def _weigh(most: int, prior: float, doubts: tuple[float, ...]) -> Weights:
    """Shares for each doubt and biases of labels with 0 to ``most`` examples."""
    numbers = np.arange(most + 1)
    logarithms = np.log(np.maximum(numbers, 1)).astype(np.float32)
    shares = np.stack([trust(numbers, doubt) for doubt in doubts])
    return Weights(shares, np.float32(prior) * logarithms)
