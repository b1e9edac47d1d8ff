"""The head: the labels of most features, all of which are scored for every example.

Such a label is found for most examples and has weights on most of their features. Filed by feature,
the weights of all of them are added up in one pass, much sooner than those of the found ones are
looked up by label; then wide path, margins and votes tell the few that may be among the best. The
861 of the 482,580 labels of the calls are two thirds of what postings find, and half of the best 5.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from slidelearn.layers import Pairs
from slidelearn.margins import squared_hinges
from slidelearn.memory import Votes, Worth
from slidelearn.prefetching import LINE, prefetch
from slidelearn.ranks import long_lists
from slidelearn.retrieved import Retrieved
from slidelearn.rows import Rows
from slidelearn.selecting import keep_largest
from slidelearn.wide import Wide

__all__ = [
    "NO_HEAD",
    "Head",
    "head_bytes",
    "head_labels",
    "make_head",
    "most_in_head",
    "score_head",
]

_MOST = 1024  # labels
_SHARE = 16  # weights of the head take no more than one part in so many of the output layer
_ENTRY = 10  # bytes of a label under a feature
_AHEAD = 8 * LINE  # entries of a feature that begin to load; the processor sees what comes then


class Head(NamedTuple):
    """Weights of the head's m labels, feature-major.

    Feature f has those of labels ``places[indptr[f] : indptr[f + 1]]``: all m, in order and some of
    them 0, if more than half of them have one.

    Attributes
    ----------
    labels : int32 array of shape (m,)
        The labels, ascending.
    rows : int16 array of shape (n_labels,), or (0,) if there is no head
        Where a label is among them; -1 if it is not.
    indptr : int64 array of shape (n_features + 1,)
        Where each feature's entries are.
    places : int16 array of shape (nnz,)
        Places in ``labels``.
    wide : float32 array of shape (nnz,)
        Weights of the wide path.
    margins : float32 array of shape (nnz,), or (0,) if there are none
        Weights of the margins.
    bias : float32 array of shape (m,)
        What the labels' logits start from.
    margins_bias : float32 array of shape (m,)
        What their margins start from.
    """

    labels: NDArray[np.int32]
    rows: NDArray[np.int16]
    indptr: NDArray[np.int64]
    places: NDArray[np.int16]
    wide: NDArray[np.float32]
    margins: NDArray[np.float32]
    bias: NDArray[np.float32]
    margins_bias: NDArray[np.float32]


_NONE = np.empty(0, np.float32)
NO_HEAD = Head(
    np.empty(0, np.int32),
    np.empty(0, np.int16),
    np.zeros(1, np.int64),
    np.empty(0, np.int16),
    _NONE,
    _NONE,
    _NONE,
    _NONE,
)


def head_labels(indptr: NDArray[np.int64], n_features: int, n_inputs: int) -> NDArray[np.intp]:
    """Which labels are the head, of lists that begin at indptr (n_labels + 1,).

    They have long lists, the longest first, as far as the size of ``n_inputs`` weights of every
    output neuron allows.

    Examples
    --------
    >>> head_labels(np.array([0, 40, 41, 101]), 100, 9999).tolist()
    [0, 2]
    """
    sizes = np.diff(indptr)
    long = long_lists(indptr, n_features)
    long = long[np.argsort(-sizes[long], kind="stable")][:_MOST]
    most, _ = most_in_head(len(long), len(sizes), n_inputs)
    return np.sort(long[np.cumsum(sizes[long]) <= most])


def most_in_head(n_long: int, n_labels: int, n_inputs: int) -> tuple[int, int]:
    """How many entries and labels a head has at most, of so many long lists.

    Examples
    --------
    >>> most_in_head(2000, 10**5, 512)
    (1280000, 1024)
    """
    return 4 * n_labels * n_inputs // (_SHARE * _ENTRY), min(n_long, _MOST)


def make_head(
    wide: Wide,
    margins: Wide | None,
    biases: tuple[NDArray[np.float32], NDArray[np.float32]],
    n_features: int,
    n_inputs: int,
) -> Head:
    """Gather the head's weights of the wide path and of the margins, which share their features.

    ``biases`` are those of the logits and of the margins, (n_labels,).

    Examples
    --------
    >>> wide = Wide(np.array([0, 2]), np.array([0, 2], np.int32), np.ones(2, np.float32), _NONE)
    >>> head = make_head(wide, None, (np.zeros(1, np.float32), _NONE), n_features=3, n_inputs=99)
    >>> head.labels.tolist(), head.indptr.tolist(), head.wide.tolist()
    ([0], [0, 1, 1, 2], [1.0, 1.0])
    """
    labels = head_labels(wide.indptr, n_features, n_inputs).astype(np.int32)
    m = len(labels)
    if m == 0:
        return NO_HEAD
    rows = np.full(len(wide.indptr) - 1, -1, np.int16)
    rows[labels] = np.arange(m)
    counts = np.zeros(n_features, np.int64)
    _count(wide, labels, counts)
    indptr = np.concatenate(([0], np.cumsum(np.where(2 * counts > m, m, counts))))
    places, weights = np.zeros(indptr[-1], np.int16), np.zeros(indptr[-1], np.float32)
    own, own_bias = _NONE, np.zeros(m, np.float32)
    if margins is not None:
        own, own_bias = np.zeros(indptr[-1], np.float32), biases[1][labels]
    head = Head(labels, rows, indptr, places, weights, own, biases[0][labels], own_bias)
    _fill(wide, _NONE if margins is None else margins.weights, np.zeros(n_features, np.int64), head)
    return head


@njit(cache=True, nogil=True)
def _count(wide: Wide, labels: NDArray[np.int32], counts: NDArray[np.int64]) -> None:
    """Count how many of some labels have each feature, (n_features,)."""
    for label in labels:
        for place in range(wide.indptr[label], wide.indptr[label + 1]):
            counts[wide.features[place]] += 1


@njit(cache=True, nogil=True)
def _fill(wide: Wide, margins: NDArray[np.float32], filled: NDArray[np.int64], head: Head) -> None:
    """Write the entries, label by label; ``filled`` (n_features,) starts at 0."""
    m = len(head.labels)
    for f in range(len(filled)):
        if head.indptr[f + 1] - head.indptr[f] == m:
            for j in range(m):
                head.places[head.indptr[f] + j] = j
    for j in range(m):
        label = head.labels[j]
        for place in range(wide.indptr[label], wide.indptr[label + 1]):
            f = wide.features[place]
            start = head.indptr[f]
            at = start + (j if head.indptr[f + 1] - start == m else filled[f])
            filled[f] += 1
            head.places[at], head.wide[at] = j, wide.weights[place]
            if len(margins) > 0:
                head.margins[at] = margins[place]


def head_bytes(n_entries: int, m: int, n_labels: int, n_features: int) -> int:
    """Bytes of a head of m labels with so many entries, at most.

    Examples
    --------
    >>> head_bytes(20, 2, 1000, 50)
    2832
    """
    return (2 * _ENTRY * n_entries + 12 * m + 2 * n_labels + 8 * (n_features + 1)) if m else 0


@njit(cache=True, nogil=True)
def score_head(
    x: Rows, head: Head, votes: Votes, worth: Worth, margin: float, limit: int
) -> Retrieved:
    """Retrieve for every example the ``limit`` best of the head, by all but the hidden layer.

    Their logits are for others to compute; as many are taken to be active.

    Examples
    --------
    >>> wide = Wide(np.array([0, 2]), np.array([0, 2], np.int32), np.ones(2, np.float32), _NONE)
    >>> head = make_head(wide, None, (np.zeros(1, np.float32), _NONE), n_features=3, n_inputs=99)
    >>> votes = Votes(Pairs(np.zeros(2, np.int64), np.empty(0, np.int32)), _NONE, _NONE)
    >>> x = Rows(np.array([0, 1]), np.array([2], np.int32), np.array([3.0], np.float32), 3, False)
    >>> score_head(x, head, votes, Worth(0.0, 0.0), 0.0, 1).wide.tolist()
    [3.0]
    """
    m, n = len(head.labels), len(x.indptr) - 1
    wide, hinges, keys = np.empty(m, np.float32), np.empty(m, np.float32), np.empty(m, np.float32)
    shares, twins = np.empty(m, np.float32), np.empty(m, np.float32)
    places, indptr, most = np.empty(m, np.int32), np.zeros(n + 1, np.int64), n * min(limit, m)
    neurons, out = np.empty(most, np.int32), np.zeros((5, most), np.float32)
    vote, twin, lost = np.float32(worth.vote), np.float32(worth.twin), np.float32(margin)
    for i in range(n if m else 0):
        _add_features(x, i, head, wide, hinges)
        _place(votes, i, head.rows, shares, twins)
        for j in range(m):
            keys[j] = head.bias[j] + wide[j] + vote * shares[j] - twin * twins[j] - lost * hinges[j]
            places[j] = j
        at, kept = indptr[i], keep_largest(keys, places, m, limit)
        for t in range(kept):
            j = places[t]
            neurons[at + t] = head.labels[j]
            out[1, at + t], out[2, at + t] = wide[j], hinges[j]
            out[3, at + t], out[4, at + t] = shares[j], twins[j]
        indptr[i + 1] = at + kept
    size = indptr[-1]
    logits, own_wide, own_hinges = out[0, :size], out[1, :size], out[2, :size]
    pairs = Pairs(indptr, neurons[:size])
    return Retrieved(pairs, logits, own_wide, own_hinges, out[3, :size], out[4, :size], size)


@njit(cache=True, nogil=True)
def _add_features(
    x: Rows, i: int, head: Head, wide: NDArray[np.float32], hinges: NDArray[np.float32]
) -> None:
    """Sum up what the features of example i weigh: wide scores, and squared hinges, (m,).

    The weights of the next feature begin to load meanwhile: so the head takes 9.0 us an example of
    the calls, and 11.3 without. To call a function for that counts references to its arrays, which
    took 1 to 2 us.
    """
    m, with_margins = len(head.labels), len(head.margins) > 0
    wide[:] = 0
    hinges[:] = 0
    for e in range(x.indptr[i], x.indptr[i + 1]):
        if e + 1 < len(x.indices):
            start, end = head.indptr[x.indices[e + 1]], head.indptr[x.indices[e + 1] + 1]
            for place in range(start, min(end, start + _AHEAD), LINE):
                prefetch(head.wide, place)
                if with_margins:
                    prefetch(head.margins, place)
                if end - start < m:
                    prefetch(head.places, place)
        start, end = head.indptr[x.indices[e]], head.indptr[x.indices[e] + 1]
        if end - start == m:
            _add_all(head.wide, start, x.values[e], wide)
            if with_margins:
                _add_all(head.margins, start, x.values[e], hinges)
        else:
            _add_some(head, start, end, x.values[e], wide, hinges)
    if with_margins:
        hinges += head.margins_bias
        squared_hinges(hinges)


@njit(cache=True, nogil=True, forceinline=True)
def _add_all(
    weights: NDArray[np.float32], start: int, value: np.float32, out: NDArray[np.float32]
) -> None:
    """Add the weights from start on, times a value, to out (m,)."""
    first = np.uint64(start)  # no sign: it counts from the front
    for j in range(np.uint64(len(out))):
        out[j] += value * weights[first + j]


@njit(cache=True, nogil=True, forceinline=True)
def _add_some(
    head: Head,
    start: int,
    end: int,
    value: np.float32,
    wide: NDArray[np.float32],
    hinges: NDArray[np.float32],
) -> None:
    """Add entries start to end, times a value, to what they are of: wide and hinges, (m,)."""
    with_margins = len(head.margins) > 0
    for q in range(np.uint64(start), np.uint64(end)):
        place = np.uint16(head.places[q])
        wide[place] += value * head.wide[q]
        if with_margins:
            hinges[place] += value * head.margins[q]


@njit(cache=True, nogil=True)
def _place(
    votes: Votes,
    i: int,
    rows: NDArray[np.int16],
    shares: NDArray[np.float32],
    twins: NDArray[np.float32],
) -> None:
    """Place the votes that example i has for the head: shares and twins, (m,)."""
    shares[:] = 0
    twins[:] = 0
    for p in range(votes.pairs.indptr[i], votes.pairs.indptr[i + 1]):
        j = rows[votes.pairs.neurons[p]]
        if j >= 0:
            shares[j], twins[j] = votes.shares[p], votes.twins[p]
