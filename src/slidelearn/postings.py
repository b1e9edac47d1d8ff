"""Postings: the hash tables of the wide path; a bucket is a feature and holds its best labels.

An example looks into the buckets of its features, and the labels that it finds are ranked by the
sum of what they weigh there: the wide score, but for weights too small to be filed.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from slidelearn.heap import offer, rise, sink
from slidelearn.layers import Pairs
from slidelearn.rows import Rows
from slidelearn.scratch import zeros
from slidelearn.wide import Wide

__all__ = ["Postings", "best_labels", "make_postings"]


class Postings(NamedTuple):
    """Labels by feature: feature f has ``labels[indptr[f] : indptr[f + 1]]``.

    Attributes
    ----------
    indptr : int64 array of shape (n_features + 1,)
        Where each bucket is.
    labels : int32 array
        The labels of a bucket.
    weights : float32 array
        Their wide weights when they were filed.
    bias : float32 array of shape (n_labels,)
        What every label's logit starts from.
    top_bias : float32
        The largest of them.
    """

    indptr: NDArray[np.int64]
    labels: NDArray[np.int32]
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    top_bias: np.float32


def make_postings(wide: Wide, n_features: int, size: int, bias: NDArray[np.float32]) -> Postings:
    """File every label under its features; a bucket keeps the ``size`` largest weights.

    Examples
    --------
    >>> wide = Wide(np.array([0, 1, 2]), np.array([0, 0], np.int32),
    ...             np.array([2, 3], np.float32), np.ones(2, np.float32))
    >>> postings = make_postings(wide, n_features=2, size=1, bias=np.zeros(2, np.float32))
    >>> postings.indptr.tolist(), postings.labels.tolist(), postings.weights.tolist()
    ([0, 1, 1], [1], [3.0])
    """
    counts = np.zeros(n_features, np.int64)
    _count(wide.features, counts)
    indptr = np.concatenate(([0], np.cumsum(np.minimum(counts, size))))
    labels, weights = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], np.float32)
    top = np.float32(bias.max(initial=-np.inf))
    postings = Postings(indptr, labels, weights, bias, top)
    _file(wide, postings, np.zeros(n_features, np.int32))
    return postings


@njit(cache=True, nogil=True)
def _count(features: NDArray[np.int32], counts: NDArray[np.int64]) -> None:
    """Count how often each feature occurs; np.bincount would make a copy of twice the size."""
    for feature in features:
        counts[feature] += 1


@njit(cache=True, nogil=True)
def _file(wide: Wide, postings: Postings, filled: NDArray[np.int32]) -> None:
    """Keep the largest weights of every feature; each bucket is a heap, its smallest on top."""
    for n in range(len(wide.indptr) - 1):
        for place in range(wide.indptr[n], wide.indptr[n + 1]):
            feature, weight = wide.features[place], wide.weights[place]
            start, end = postings.indptr[feature], postings.indptr[feature + 1]
            weights, labels = postings.weights[start:end], postings.labels[start:end]
            if filled[feature] < len(weights):
                rise(weights, labels, filled[feature], weight, n)
                filled[feature] += 1
            elif weight > weights[0]:
                sink(weights, labels, len(weights), weight, n)


def best_labels(x: Rows, postings: Postings, limit: int) -> Pairs:
    """Retrieve for every example the ``limit`` labels that weigh most in its buckets.

    Examples
    --------
    >>> postings = Postings(np.array([0, 2]), np.array([4, 7], np.int32),
    ...                     np.array([1, 2], np.float32), np.zeros(9, np.float32), np.float32(0))
    >>> x = Rows(np.array([0, 1]), np.array([0], np.int32), np.array([3.0], np.float32), 1, False)
    >>> best_labels(x, postings, limit=1).neurons.tolist()
    [7]
    """
    indptr = np.zeros(x.n + 1, np.int64)
    neurons = np.empty(x.n * limit, np.int32)
    _retrieve(x, postings, limit, zeros(len(postings.bias)), indptr, neurons)
    return Pairs(indptr, neurons[: indptr[-1]])


@njit(cache=True, nogil=True)
def _retrieve(
    x: Rows,
    postings: Postings,
    limit: int,
    scores: NDArray[np.float32],
    indptr: NDArray[np.int64],
    neurons: NDArray[np.int32],
) -> None:
    """Sum the weights of all labels in an example's buckets and keep the best, packed as CSR.

    ``scores`` is scratch (n_labels,) or longer, zero before and after.
    """
    keys, touched = np.empty(limit, np.float32), np.empty(0, np.int32)
    for i in range(len(x.indptr) - 1):
        own = x.indices[x.indptr[i] : x.indptr[i + 1]]
        most = 0
        for feature in own:
            most += postings.indptr[feature + 1] - postings.indptr[feature]
        if most > len(touched):
            touched = np.empty(2 * most, np.int32)
        n_touched = 0
        for e in range(len(own)):
            value = x.values[x.indptr[i] + e]
            for q in range(postings.indptr[own[e]], postings.indptr[own[e] + 1]):
                label = postings.labels[q]
                touched[n_touched] = label  # stays only if the label is new
                n_touched += scores[label] == 0
                scores[label] += value * postings.weights[q]
        kept, labels = 0, neurons[indptr[i] : indptr[i] + limit]
        for label in touched[:n_touched]:
            score = scores[label]
            scores[label] = 0
            hopeless = kept == limit and score + postings.top_bias < keys[0]
            if hopeless or score == 0:  # 0 weighs nothing, or was ranked already
                continue
            kept = offer(keys, labels, kept, score + postings.bias[label], label)
        indptr[i + 1] = indptr[i] + kept
