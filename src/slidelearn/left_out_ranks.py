"""Ranks of labels for examples that are left out of them: the kernels of `leave_one_out`."""

from typing import NamedTuple, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

from slidelearn.heap import offer
from slidelearn.layers import Pairs
from slidelearn.rows import Rows
from slidelearn.weighting import raised
from slidelearn.wide_block import Columns

__all__ = ["Examples", "Sample", "Weights", "no_labels", "rank_labels"]

# As long as there are metrics: the length of a tuple is known when a kernel is compiled, so that
# loops over metrics become vectors. Without, six metrics took 1.3 to 1.7 times as long.
_Lanes: TypeAlias = tuple[int, ...]


class Examples(NamedTuple):
    """All examples, and what each of m metrics makes of them.

    Feature f of example i, raised to a power, counts ``factors[f]`` (m,) times ``scales[i]`` (m,).
    """

    x: Rows
    members: Pairs
    factors: NDArray[np.float32]
    scales: NDArray[np.float32]
    power: float


class Sample(NamedTuple):
    """The ``rows`` (n,) that ask: their features turned around, values (nnz, m), squares (n, m)."""

    rows: NDArray[np.int64]
    columns: Columns
    values: NDArray[np.float32]
    squares: NDArray[np.float32]
    members: Pairs


class Weights(NamedTuple):
    """By a label's number of examples: its share of a score, (n_doubts, most), and its bias."""

    shares: NDArray[np.float32]
    biases: NDArray[np.float32]


class _Best(NamedTuple):
    """Heaps of the k best labels, (n, m * n_doubts, k), and what a label must reach to be one.

    That is ``least`` for each heap, and the smallest of a metric's heaps in ``floors`` (n, m).
    """

    keys: NDArray[np.float32]
    labels: NDArray[np.int32]
    sizes: NDArray[np.int64]
    least: NDArray[np.float32]
    floors: NDArray[np.float32]


def no_labels(n: int, n_metrics: int, n_heaps: int, k: int) -> _Best:
    """Heaps without a label."""
    return _Best(
        np.full((n, n_heaps, k), -np.inf, np.float32),
        np.full((n, n_heaps, k), -1, np.int32),
        np.zeros((n, n_heaps), np.int64),
        np.full((n, n_heaps), -np.inf, np.float32),
        np.full((n, n_metrics), -np.inf, np.float32),
    )


@njit(cache=True, nogil=True)
def rank_labels(
    known: Examples,
    sample: Sample,
    weights: Weights,
    length: np.float32,
    ends: tuple[int, int],
    lanes: _Lanes,
    best: _Best,
) -> None:
    """Rank the labels between two ends for n examples, by every metric and with every doubt.

    Label by label, since so its centroids, sums (d, n_metrics), are needed once.
    """
    n, n_metrics = sample.squares.shape
    sums, scores = np.empty(known.factors.shape, np.float32), np.empty((n, n_metrics), np.float32)
    features, seen = np.empty(len(sums), np.int64), np.full(len(sums), -1)
    mine, high = np.full(n, -1), np.empty(n, np.int64)
    for label in range(ends[0], ends[1]):
        size = known.members.indptr[label + 1] - known.members.indptr[label]
        if size == 0:
            continue
        own = features[: _add_up(known, label, lanes, seen, features, sums)]
        squares = _square_sums(own, lanes, sums)
        lengths = length * _inverse_roots(squares)
        _multiply(sample, own, lanes, sums, lengths, scores)
        for e in range(sample.members.indptr[label], sample.members.indptr[label + 1]):
            i = sample.members.neurons[e]
            mine[i] = label
            _leave_out(known, sample, i, lanes, sums, squares, length, lengths, scores[i])
        n_high = _find_high(scores, weights.biases[size], best.floors, lanes, high)
        _offer(best, weights, high[:n_high], (size, mine), np.int64(label), scores)


@njit(cache=True, nogil=True)
def _add_up(
    known: Examples,
    label: int,
    lanes: _Lanes,
    seen: NDArray[np.int64],
    features: NDArray[np.int64],
    sums: NDArray[np.float32],
) -> int:
    """Add up the examples of a label: sums (d, n_metrics) at its features; returns how many.

    ``seen`` (d,) holds the label that a feature was last met with.
    """
    size, (x, members, factors, scales, power) = 0, known
    for i in members.neurons[members.indptr[label] : members.indptr[label + 1]]:
        for e in range(x.indptr[i], x.indptr[i + 1]):
            f = x.indices[e]
            if seen[f] != label:
                seen[f], features[size] = label, f
                for m in range(len(lanes)):
                    sums[f, m] = 0
                size += 1
            value = raised(x.values[e], power)
            for m in range(len(lanes)):
                sums[f, m] += value * factors[f, m] * scales[i, m]
    return size


@njit(cache=True, nogil=True)
def _square_sums(
    features: NDArray[np.int64], lanes: _Lanes, sums: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Squared lengths (n_metrics,) of the sums (d, n_metrics) at some features."""
    out = np.zeros(sums.shape[1], np.float32)
    for f in features:
        for m in range(len(lanes)):
            out[m] += sums[f, m] * sums[f, m]
    return out


@njit(cache=True, nogil=True)
def _inverse_roots(squares: NDArray[np.float32]) -> NDArray[np.float32]:
    """One over the roots of squares (n_metrics,), 0 for 0."""
    out = np.zeros(len(squares), np.float32)
    for m in range(len(squares)):
        if squares[m] > 0:
            out[m] = 1 / np.sqrt(squares[m])
    return out


@njit(cache=True, nogil=True)
def _multiply(
    sample: Sample,
    own: NDArray[np.int64],
    lanes: _Lanes,
    sums: NDArray[np.float32],
    lengths: NDArray[np.float32],
    scores: NDArray[np.float32],
) -> None:
    """Products of the examples that ask and a label's sums (d, n_metrics) at its ``own`` features.

    Sums count ``lengths`` (n_metrics,); fills scores (n, n_metrics), which most labels touch.
    """
    columns = sample.columns
    for i in range(len(scores)):
        for m in range(len(lanes)):
            scores[i, m] = 0
    weights = np.empty(len(lengths), np.float32)
    for f in own:
        k = columns.numbers[f]
        if k < 0:
            continue
        for m in range(len(lanes)):
            weights[m] = sums[f, m] * lengths[m]
        for e in range(columns.indptr[k], columns.indptr[k + 1]):
            i = columns.examples[e]
            for m in range(len(lanes)):
                scores[i, m] += weights[m] * sample.values[e, m]


@njit(cache=True, nogil=True)
def _leave_out(
    known: Examples,
    sample: Sample,
    asked: int,
    lanes: _Lanes,
    sums: NDArray[np.float32],
    squares: NDArray[np.float32],
    length: np.float32,
    lengths: NDArray[np.float32],
    scores: NDArray[np.float32],
) -> None:
    """Take an example that asks out of its own label's sums (d, n_metrics): scores (n_metrics,)."""
    i, (x, _, factors, scales, power) = sample.rows[asked], known
    left = squares.copy()  # squared lengths of the sums without the example
    for e in range(x.indptr[i], x.indptr[i + 1]):
        f, value = x.indices[e], raised(x.values[e], power)
        for m in range(len(lanes)):
            part = value * factors[f, m] * scales[i, m]
            left[m] += part * part - 2 * part * sums[f, m]
    for m in range(len(lanes)):
        if left[m] > 0:
            whole = scores[m] / lengths[m] if lengths[m] > 0 else np.float32(0)
            scores[m] = length * (whole - sample.squares[asked, m]) / np.sqrt(left[m])
        else:
            scores[m] = 0


@njit(cache=True, nogil=True)
def _find_high(
    scores: NDArray[np.float32],
    bias: np.float32,
    floors: NDArray[np.float32],
    lanes: _Lanes,
    high: NDArray[np.int64],
) -> int:
    """List the examples (n,) for which a label may be one of the best by any metric; how many."""
    size = 0
    for i in range(len(scores)):
        reached = 0
        for m in range(len(lanes)):
            reached += max(scores[i, m], np.float32(0)) + bias >= floors[i, m]
        high[size] = i
        size += reached > 0
    return size


@njit(cache=True, nogil=True)
def _offer(
    best: _Best,
    weights: Weights,
    high: NDArray[np.int64],
    counts: tuple[int, NDArray[np.int64]],
    label: np.int64,
    scores: NDArray[np.float32],
) -> None:
    """Let a label be one of the best for the examples ``high``, scores (n, n_metrics)."""
    (keys, labels, sizes, least, floors), (shares, biases) = best, weights
    n_metrics, n_doubts, width = scores.shape[1], len(shares), keys.shape[2]
    size, mine = counts
    for i in high:
        count = size - np.int64(mine[i] == label)
        if count == 0:
            continue
        for m in range(n_metrics):
            score, bias = scores[i, m], biases[count]
            if max(score, np.float32(0)) + bias < floors[i, m]:
                continue
            floor = np.float32(np.inf)
            for d in range(n_doubts):
                v, key = m * n_doubts + d, shares[d, count] * score + bias
                if key >= least[i, v]:
                    sizes[i, v] = offer(keys[i, v], labels[i, v], sizes[i, v], key, label)
                    if sizes[i, v] == width:
                        least[i, v] = keys[i, v, 0]
                floor = min(floor, least[i, v])
            floors[i, m] = floor
