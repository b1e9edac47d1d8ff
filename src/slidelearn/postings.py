"""Postings: the hash tables of the wide path; a bucket is a feature and holds its best labels.

An example looks into the buckets of its features, and the labels that it finds are ranked by the
sum of what they weigh there: the wide score, but for weights too small to be filed or read. Labels
of a bucket come largest weight first, so a lookup reads as much of it as it can afford.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from slidelearn.csr import count_ids
from slidelearn.heap import heapify, offer, rank
from slidelearn.layers import Pairs
from slidelearn.prefetching import prefetch, prefetch_beginning
from slidelearn.rows import Rows
from slidelearn.scratch import check_room
from slidelearn.selecting import keep_about, keep_largest
from slidelearn.wide import Wide

__all__ = [
    "UNBIASED",
    "WHOLE",
    "Depth",
    "Found",
    "Postings",
    "best_labels",
    "make_postings",
    "refile_postings",
]


UNBIASED = np.empty(0, np.float32)
# Entries by which sums are prefetched: 26.5 to 27 us for 8,400 of them on the calls with 16, 32 or
# 64, and 33 to 34 without; on commits, whose sums fit into the second cache, the same as without.
_AHEAD = 16

_STEP = 16  # entries by which the end of a bucket is looked for
_HIDDEN = np.float32(-np.inf)  # the sum of a label that is not to be found
_NO_LABELS = np.empty(0, np.int32)


class Found(NamedTuple):
    """What examples found: neurons in no order, and what each weighs, (n_pairs,), bias included."""

    pairs: Pairs
    weights: NDArray[np.float32]


class Depth(NamedTuple):
    """How deep a lookup reads into buckets, whose labels come largest weight first.

    Attributes
    ----------
    cap : int
        Labels read of one.
    faint : float
        How little labels may weigh to be read, next to the heaviest that any bucket of the example
        has. The last of ``cap`` must weigh as much times that, and those before less, in proportion
        to their place: a bucket ends where one does not. If 0, weights do not matter, nor do they
        where a feature's value is negative, since those that count for most are then the last.
    few : int
        Where fewer labels are found, the bucket of the constant is read, too.
    left : int
        Biases are read of labels whose sums are about so many largest, and the others forgotten.
    """

    cap: int
    faint: float
    few: int
    left: int


WHOLE = Depth(2**31 - 1, 0.0, 0, 2**31 - 1)  # buckets, but for the constant's


class Postings(NamedTuple):
    """Labels by feature: feature f has ``labels[indptr[f] : indptr[f + 1]]``, best first.

    Attributes
    ----------
    indptr : int64 array of shape (n_features + 1,)
        Where each bucket is.
    labels : int32 array
        The labels of a bucket.
    weights : float32 array
        Their wide weights when they were filed.
    bias : float32 array of shape (n_labels,) or (0,)
        What every label's logit starts from; of shape (0,) where that is 0.
    usual : int32 array
        Labels of the largest biases: the bucket of the constant.
    """

    indptr: NDArray[np.int64]
    labels: NDArray[np.int32]
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    usual: NDArray[np.int32]


def usual_labels(bias: NDArray[np.float32], size: int) -> NDArray[np.int32]:
    """Labels of the largest biases (n_labels,), ascending.

    Examples
    --------
    >>> usual_labels(np.array([3, 1, 2], np.float32), 2).tolist()
    [0, 2]
    """
    size = min(size, len(bias))
    chosen = np.argpartition(-bias, size - 1)[:size] if size else np.empty(0)
    return np.sort(chosen.astype(np.int32))


def make_postings(
    wide: Wide,
    n_features: int,
    size: int,
    bias: NDArray[np.float32],
    *,
    most: int | None = None,
    n_usual: int = 0,
) -> Postings:
    """File every label under its features; a bucket keeps the ``size`` largest weights.

    Features of more than ``most`` labels, if given, get an empty one. The constant's has the
    ``n_usual`` labels of the largest biases.

    Examples
    --------
    >>> wide = Wide(np.array([0, 1, 2]), np.array([0, 0], np.int32),
    ...             np.array([2, 3], np.float32), np.ones(2, np.float32))
    >>> postings = make_postings(wide, n_features=2, size=1, bias=np.zeros(2, np.float32))
    >>> postings.indptr.tolist(), postings.labels.tolist(), postings.weights.tolist()
    ([0, 1, 1], [1], [3.0])
    """
    starts = np.zeros(n_features + 1, np.int64)
    none = np.empty(0, np.int32)
    empty = Postings(starts, none, np.empty(0, np.float32), bias, none)
    every = np.ones(n_features, np.bool_)
    return refile_postings(empty, wide, every, size, bias, most=most, n_usual=n_usual)


def refile_postings(
    postings: Postings,
    wide: Wide,
    features: NDArray[np.bool_],
    size: int,
    bias: NDArray[np.float32],
    *,
    most: int | None = None,
    n_usual: int = 0,
) -> Postings:
    """File the labels of some ``features``, (n_features,), anew; the other buckets stay.

    Equal to new postings if labels have gained or moved weights on these features only. Whoever
    adds few examples to many then pays for reading the path, but not for filing it.

    Examples
    --------
    >>> wide = Wide(np.array([0, 1, 2]), np.array([0, 1], np.int32),
    ...             np.array([2, 3], np.float32), np.ones(2, np.float32))
    >>> postings = make_postings(wide, n_features=2, size=1, bias=np.zeros(2, np.float32))
    >>> wide.weights[:] = 5
    >>> first = np.array([True, False])
    >>> refile_postings(postings, wide, first, size=1, bias=postings.bias).weights.tolist()
    [5.0, 3.0]
    """
    n_features = len(features)
    counts = count_ids(wide.features, n_features)
    sizes = np.minimum(counts, size)
    if most is not None:
        sizes[counts > most] = 0
    indptr = np.concatenate(([0], np.cumsum(sizes)))
    labels, weights = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], np.float32)
    filed = Postings(indptr, labels, weights, bias, usual_labels(bias, n_usual))
    _keep(postings, features, filed)
    _file(wide, features, filed, np.zeros(n_features, np.int64))
    _sort(features, filed)
    return filed


@njit(cache=True, nogil=True)
def _keep(postings: Postings, features: NDArray[np.bool_], filed: Postings) -> None:
    """Copy the buckets of all but some features, (n_features,)."""
    for f in range(len(features)):
        if not features[f]:
            start, end = postings.indptr[f], postings.indptr[f + 1]
            first = filed.indptr[f]
            filed.labels[first : first + end - start] = postings.labels[start:end]
            filed.weights[first : first + end - start] = postings.weights[start:end]


@njit(cache=True, nogil=True)
def _file(
    wide: Wide, features: NDArray[np.bool_], postings: Postings, filled: NDArray[np.int64]
) -> None:
    """Keep the largest weights of some features, (n_features,); ``filled`` likewise starts at 0.

    A bucket that overflows becomes a heap with its smallest on top. Most buckets never do, and to
    write into them waits for no memory: heaps from the start took 1.8 times as long. Tops are kept
    together, so that a weight below one looks no further.
    """
    tops = np.full(len(features), -np.inf, np.float32)
    for n in range(len(wide.indptr) - 1):
        for place in range(wide.indptr[n], wide.indptr[n + 1]):
            feature, weight = wide.features[place], wide.weights[place]
            if not features[feature] or weight < tops[feature]:
                continue
            start, end, at = postings.indptr[feature], postings.indptr[feature + 1], filled[feature]
            if at < end - start:
                postings.labels[start + at], postings.weights[start + at] = n, weight
                filled[feature] += 1
            elif at > 0:
                weights, labels = postings.weights[start:end], postings.labels[start:end]
                if tops[feature] == -np.inf:
                    heapify(weights, labels)
                offer(weights, labels, at, weight, n)
                tops[feature] = weights[0]


@njit(cache=True, nogil=True)
def _sort(features: NDArray[np.bool_], postings: Postings) -> None:
    """Sort the buckets of some features, (n_features,); 12 million labels take a second."""
    for f in np.flatnonzero(features):
        own = slice(postings.indptr[f], postings.indptr[f + 1])
        rank(postings.weights[own], postings.labels[own])


@njit(cache=True, nogil=True)
def best_labels(
    x: Rows,
    postings: Postings,
    limit: int,
    probes: int,
    scratch: NDArray[np.float32],
    depth: Depth = WHOLE,
    hidden: NDArray[np.int32] = _NO_LABELS,
) -> Found:
    """Find for every example the ``limit`` labels that weigh most in its buckets.

    It reads the buckets of its ``probes`` largest features that have any, to some ``depth``.
    ``hidden`` labels are not found. ``scratch`` is (n_labels,) or longer, zero before and after.

    Examples
    --------
    >>> from slidelearn.scratch import zeros
    >>> postings = Postings(np.array([0, 2]), np.array([4, 7], np.int32),
    ...                     np.array([1, 2], np.float32), np.zeros(9, np.float32),
    ...                     np.empty(0, np.int32))
    >>> x = Rows(np.array([0, 1]), np.array([0], np.int32), np.array([3.0], np.float32), 1, False)
    >>> found = best_labels(x, postings, 1, 1, zeros(9))
    >>> found.pairs.neurons.tolist(), found.weights.tolist()
    ([7], [6.0])
    """
    check_room(scratch, len(postings.bias))
    n, longest = len(x.indptr) - 1, 0
    for i in range(n):
        longest = max(longest, x.indptr[i + 1] - x.indptr[i])
    indptr, neurons = np.zeros(n + 1, np.int64), np.empty(n * limit, np.int32)
    best = np.empty(n * limit, np.float32)
    touched, keys = np.empty(0, np.int32), np.empty(0, np.float32)
    sizes, probed = np.empty(longest, np.float32), np.empty(longest, np.int32)
    bias, usual_keys = postings.bias, np.empty(len(postings.usual), np.float32)
    for label in hidden:
        scratch[label] = _HIDDEN
    for i in range(n):
        n_probed, most, slope = _choose_buckets(x, i, postings, depth, probes, sizes, probed)
        most += len(postings.usual)
        if most >= len(touched):
            touched, keys = np.empty(2 * most + 1, np.int32), np.empty(2 * most + 1, np.float32)
        n_touched = np.uint64(0)
        for k in range(n_probed):
            e = x.indptr[i] + probed[k]
            if k + 1 < n_probed:
                _prefetch_bucket(postings, x.indices[x.indptr[i] + probed[k + 1]])
            feature, value = x.indices[e], x.values[e]
            fall = slope / value if value > 0 else np.float32(0)
            n_touched = _read(
                postings, feature, depth.cap, fall, value, scratch, touched, n_touched
            )
        n_usual = _take_usual(postings, scratch, usual_keys) if n_touched < depth.few else 0
        n_keys = _take_keys(touched, n_touched, scratch, keys)
        if len(bias) > 0:
            n_keys = keep_about(keys, touched, n_keys, depth.left)
            for t in range(n_keys):
                keys[t] += bias[np.uint32(touched[t])]
        for t in range(n_usual):
            touched[n_keys], keys[n_keys] = postings.usual[t], usual_keys[t]
            n_keys += usual_keys[t] > _HIDDEN
        at, kept = indptr[i], keep_largest(keys, touched, n_keys, limit)
        for t in range(kept):
            neurons[at + t], best[at + t] = touched[t], keys[t]
        indptr[i + 1] = at + kept
    for label in hidden:
        scratch[label] = 0
    return Found(Pairs(indptr, neurons[: indptr[-1]]), best[: indptr[-1]])


@njit(cache=True, nogil=True, forceinline=True)
def _read(
    postings: Postings,
    feature: int,
    cap: int,
    fall: np.float32,
    value: np.float32,
    scratch: NDArray[np.float32],
    touched: NDArray[np.int32],
    n_touched: np.uint64,
) -> np.uint64:
    """Add a bucket's first ``cap`` weights, times a value, to sums in scratch (n_labels,).

    It stops at one below ``fall`` times its place in the bucket, if that is not 0. Labels that are
    new to it are appended to those that were touched; says how many these are then.
    """
    # An index without a sign counts from the front, so it is quicker.
    start, ahead = np.uint64(postings.indptr[feature]), np.uint64(_AHEAD)
    end = _find_end(postings, feature, cap, fall)
    last = end - ahead if end > start + ahead else start
    for q in range(start, last):
        prefetch(scratch, np.uint64(postings.labels[q + ahead]))
        n_touched = _add(postings, q, value, scratch, touched, n_touched)
    for q in range(last, end):
        n_touched = _add(postings, q, value, scratch, touched, n_touched)
    return n_touched


@njit(cache=True, nogil=True, forceinline=True)
def _add(
    postings: Postings,
    q: int | np.uint64,
    value: np.float32,
    scratch: NDArray[np.float32],
    touched: NDArray[np.int32],
    n_touched: np.uint64,
) -> np.uint64:
    """Add the weight of an entry, times a value, to its label's sum."""
    label = np.uint32(postings.labels[q])
    score = scratch[label]
    touched[n_touched] = label  # stays only if the label is new
    scratch[label] = score + value * postings.weights[q]
    return n_touched + np.uint64(score == 0)


@njit(cache=True, nogil=True, forceinline=True)
def _find_end(postings: Postings, feature: int, cap: int, fall: np.float32) -> np.uint64:
    """Find where a bucket's weights are below ``fall`` times their place: at most ``cap`` further.

    That is before they are read, so that the loop has one end: a lookup of the calls takes 26.5 us,
    and 28.5 if a weight ends it.
    """
    start = np.uint64(postings.indptr[feature])
    size = np.uint64(min(postings.indptr[feature + 1] - postings.indptr[feature], cap))
    if fall <= 0:
        return start + size
    at, step = np.uint64(0), np.uint64(_STEP)
    while at < size and postings.weights[start + at] >= fall * np.float32(at):
        at += step
    at = max(at, step) - step
    while at < size and postings.weights[start + at] >= fall * np.float32(at):
        at += np.uint64(1)
    return start + at


@njit(cache=True, nogil=True)
def _take_usual(postings: Postings, scratch: NDArray[np.float32], keys: NDArray[np.float32]) -> int:
    """Take what the bucket of the constant weighs out of scratch: its keys, bias included.

    Returns how many labels it has; hidden ones stay there, and weigh -inf.
    """
    for t in range(len(postings.usual)):
        label = np.uint32(postings.usual[t])
        keys[t] = scratch[label] + postings.bias[label]
        if keys[t] > _HIDDEN:
            scratch[label] = 0
    return len(postings.usual)


@njit(cache=True, nogil=True)
def _take_keys(
    touched: NDArray[np.int32],
    n_touched: np.uint64,
    scratch: NDArray[np.float32],
    keys: NDArray[np.float32],
) -> np.int64:
    """Take the sums of touched labels (n_touched,) out of scratch: keys (n_touched,).

    Returns how many they are without those that weigh nothing, or are there twice since they once
    did. No place depends on what is read, so the processor reads ahead: with those left out at
    once, a lookup took a tenth longer.
    """
    n_nothing = 0
    for t in range(n_touched):
        label = np.uint32(touched[t])
        keys[t] = scratch[label]
        scratch[label] = 0
        n_nothing += keys[t] == 0
    if n_nothing == 0:
        return np.int64(n_touched)
    at = np.uint64(0)
    for t in range(n_touched):
        touched[at], keys[at] = touched[t], keys[t]
        at += np.uint64(keys[t] != 0)
    return np.int64(at)


@njit(cache=True, nogil=True, forceinline=True)
def _prefetch_bucket(postings: Postings, feature: int) -> None:
    """Begin to load the first labels of a bucket, and their weights."""
    start, end = postings.indptr[feature], postings.indptr[feature + 1]
    prefetch_beginning(postings.labels, start, end)
    prefetch_beginning(postings.weights, start, end)


@njit(cache=True, nogil=True)
def _choose_buckets(
    x: Rows,
    i: int,
    postings: Postings,
    depth: Depth,
    probes: int,
    sizes: NDArray[np.float32],
    probed: NDArray[np.int32],
) -> tuple[np.int64, int, np.float32]:
    """Choose the ``probes`` largest entries of example i that have labels: ``probed`` (longest,).

    Returns how many of them there are, how many labels are read at most, and how much more one of a
    bucket has to weigh for each place that it is further back.
    """
    start, kept, most = x.indptr[i], np.int64(0), 0
    for e in range(start, x.indptr[i + 1]):
        feature = x.indices[e]
        sizes[kept], probed[kept] = abs(x.values[e]), e - start
        kept += postings.indptr[feature + 1] > postings.indptr[feature]
    kept, heaviest = keep_largest(sizes, probed, kept, probes), np.float32(0)
    for k in range(kept):
        e = start + probed[k]
        first, last = postings.indptr[x.indices[e]], postings.indptr[x.indices[e] + 1]
        most += min(last - first, depth.cap)
        if depth.faint > 0:
            heaviest = max(heaviest, x.values[e] * postings.weights[first])
    return kept, most, np.float32(depth.faint / depth.cap) * heaviest
