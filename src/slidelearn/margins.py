"""Margins: a linear classifier of each label, fitted on the examples that look like its own.

The softmax asks which label is the likeliest of all; a margin asks of one label whether an example
is its own, against its rivals: examples that the network confused with its own while it trained,
those near them in the memory, and a few random ones. Every label is a small problem for itself, a
support vector machine with the squared hinge, solved by dual coordinate descent (Hsieh et al.
2008), so no step is shared and labels run on any thread. In predictions a label's logit loses the
squared hinge of its margin.
P@1 on validation parts, without and with: 56.8 and 57.7 on commits, 42.7 and 44.5 on 200,000 of the
calls, 60.6 and 62.0 on bibtex.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from slidelearn.hashing.mixing import below, mix_pair
from slidelearn.layers import Pairs, examples_of
from slidelearn.rows import Rows, sparse_rows
from slidelearn.wide import Wide
from slidelearn.workers import Workers

__all__ = [
    "Margins",
    "fit_margins",
    "make_margins",
    "squared_hinges",
]

_PASSES = 8  # over a label's examples, at most; 5 have 0.0 to 0.2 less P@1
_TOLERANCE = 0.1  # of the largest projected gradient in a pass
_RANDOM = 10  # random examples beside a label's rivals, and as many more as it has of its own
_COPIED = 2**18  # entries of a problem that a copy keeps in the cache; larger ones are not copied
_TASKS = 64  # ranges of labels that threads take one after the other, at least
_RANGE = 2**18  # examples of a range, at about 1.5 us each: Ctrl-C waits for one range


class Margins(NamedTuple):
    """One linear classifier for each label.

    Attributes
    ----------
    path : Wide
        Its weights, on the features that occur with the label; there are no ``squares``.
    bias : float32 array of shape (n_labels,)
        What every margin starts from.
    strength : float
        What a label's logit loses where its margin is 0.
    """

    path: Wide
    bias: NDArray[np.float32]
    strength: float


class _Problem(NamedTuple):
    """Examples ``x`` by label, for each of n_labels classifiers.

    ``own`` and ``rivals`` hold examples where `Pairs` elsewhere hold neurons. ``cost`` is what a
    squared hinge of 1 costs.
    """

    x: Rows
    own: Pairs
    rivals: Pairs
    cost: float
    seed: int


class _Vectors(NamedTuple):
    """Sparse vectors: vector k has ``columns`` and ``values`` from ``starts[k]`` to ``ends[k]``."""

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    columns: NDArray[np.int32]
    values: NDArray[np.float32]


def make_margins(path: Wide, strength: float) -> Margins:
    """Margins of 0 on the pairs of labels and features of a wide path."""
    nothing = np.zeros(len(path.weights), np.float32)
    path = path._replace(weights=nothing, squares=np.empty(0, np.float32))
    return Margins(path, np.zeros(len(path.indptr) - 1, np.float32), strength)


def fit_margins(
    margins: Margins,
    X: csr_matrix,
    Y: csr_matrix,
    rivals: Pairs,
    *,
    cost: float,
    seed: int,
    workers: Workers,
) -> None:
    """Move every label's classifier, in place, no further than its examples ask for.

    Minimises half the squared distance to the weights as they are plus ``cost`` times the squared
    hinges, so a fit of new margins is a support vector machine and a later one forgets little.
    Labels without examples stay.

    Parameters
    ----------
    margins : Margins
        What moves.
    X, Y : csr_matrix of shapes (n, d) and (n, n_labels)
        Examples and their labels.
    rivals : Pairs
        Examples that each label is a rival in; see `slidelearn.rivals.by_rival`.
    cost : float
        What a squared hinge of 1 costs.
    seed : int
        Of the random examples, and the order that examples are visited in.
    workers : Workers
        Threads.

    Examples
    --------
    >>> from slidelearn.rivals import by_rival
    >>> X = csr_matrix(np.eye(2, dtype=np.float32))
    >>> path = Wide(np.arange(3), np.arange(2, dtype=np.int32), np.ones(2, np.float32),
    ...             np.ones(2, np.float32))
    >>> margins, rivals = make_margins(path, 1.0), by_rival([np.array([[1], [0]], np.int32)], 2)
    >>> with Workers(1) as workers:
    ...     Y = csr_matrix(np.eye(2))
    ...     fit_margins(margins, X, Y, rivals, cost=1.0, seed=0, workers=workers)
    >>> bool((margins.path.weights > 0.5).all())
    True
    """
    x, own = sparse_rows(X), examples_of(Y)
    problem = _Problem(x, own, rivals, cost, seed)
    n_own = np.diff(own.indptr)
    sizes = (n_own > 0) * (2 * n_own + np.diff(rivals.indptr) + _RANDOM)

    def fit(start: int, end: int) -> None:
        marks = np.full(x.n, -1, np.int32)
        _fit_labels(problem, margins, start, end, marks, np.full(x.width, -1, np.int32))

    workers.map(fit, _even_ranges(sizes))


def _even_ranges(sizes: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Cut labels into ranges of about the same work, none of them long but for a single label's."""
    sums = np.cumsum(sizes)
    n_ranges = max(_TASKS, int(sums[-1]) // _RANGE)
    cuts = np.searchsorted(sums, np.linspace(0, sums[-1], n_ranges + 1)[1:-1])
    edges = np.unique(np.concatenate(([0], cuts, [len(sizes)]))).tolist()
    return list(pairwise(edges))


@njit(cache=True, nogil=True)
def _fit_labels(
    problem: _Problem,
    margins: Margins,
    start: int,
    end: int,
    marks: NDArray[np.int32],
    numbers: NDArray[np.int32],
) -> None:
    """Fit the classifiers of labels start to end.

    ``marks`` (n,) is scratch that starts at -1; ``numbers`` (d,) is scratch, -1 before and after.
    """
    path = margins.path
    for label in range(start, end):
        n_own = problem.own.indptr[label + 1] - problem.own.indptr[label]
        if n_own == 0:
            continue
        examples = _gather(problem, label, marks)
        vectors, features = _numbered(problem.x, examples, numbers)
        low, high = path.indptr[label], path.indptr[label + 1]
        w = np.zeros(max(numbers[features]) + 1 if len(features) else 0, np.float32)
        for place in range(low, high):
            if numbers[path.features[place]] >= 0:
                w[numbers[path.features[place]]] = path.weights[place]
        key = mix_pair(problem.seed, label)
        margins.bias[label] = _solve(vectors, n_own, problem.cost, key, margins.bias[label], w)
        for place in range(low, high):
            if numbers[path.features[place]] >= 0:
                path.weights[place] = w[numbers[path.features[place]]]
        for feature in features:
            numbers[feature] = -1


@njit(cache=True, nogil=True)
def _numbered(
    x: Rows, examples: NDArray[np.int64], numbers: NDArray[np.int32]
) -> tuple[_Vectors, NDArray[np.int32]]:
    """Copy some examples, with features numbered as they come; returns these, too.

    A problem then stays in the cache over its passes: fits took a quarter less time.
    """
    starts, ends = x.indptr[examples], x.indptr[examples + 1]
    size, width, at = (ends - starts).sum(), 0, 0
    copied = size <= _COPIED
    features = np.empty(min(size, x.width), np.int32)
    columns, values = x.indices, x.values
    if copied:
        columns, values = np.empty(size, np.int32), np.empty(size, np.float32)
    for k in range(len(examples)):
        first = at
        for e in range(starts[k], ends[k]):
            feature = x.indices[e]
            if numbers[feature] < 0:
                numbers[feature], features[width] = width if copied else feature, feature
                width += 1
            if copied:
                columns[at], values[at] = numbers[feature], x.values[e]
                at += 1
        if copied:
            starts[k], ends[k] = first, at
    return _Vectors(starts, ends, columns, values), features[:width]


@njit(cache=True, nogil=True)
def _gather(problem: _Problem, label: int, marks: NDArray[np.int32]) -> NDArray[np.int64]:
    """Examples of one problem, without repeats: the label's own, rivals and random ones."""
    own = problem.own.neurons[problem.own.indptr[label] : problem.own.indptr[label + 1]]
    rivals = problem.rivals.neurons[problem.rivals.indptr[label] : problem.rivals.indptr[label + 1]]
    n_random = _RANDOM + len(own)
    examples = np.empty(len(own) + len(rivals) + n_random, np.int64)
    size, key = 0, mix_pair(mix_pair(problem.seed, label), -1)
    for i in own:
        examples[size] = i
        marks[i] = label
        size += 1
    for r in range(len(rivals) + n_random):
        i = np.int64(rivals[r]) if r < len(rivals) else below(mix_pair(key, r), len(marks))
        if marks[i] != label:
            examples[size] = i
            marks[i] = label
            size += 1
    return examples[:size]


@njit(cache=True, nogil=True, forceinline=True)
def _solve(
    x: _Vectors, n_own: int, cost: float, key: np.int64, bias: np.float32, w: NDArray[np.float32]
) -> np.float32:
    """Dual coordinate descent on weights w (width,), whose first ``n_own`` vectors are positive.

    Returns the bias, the weight of an input of 1.
    """
    m, slack = len(x.starts), np.float32(0.5 / cost)
    dual, curvature, order = np.zeros(m, np.float32), np.empty(m, np.float32), np.arange(m)
    for k in range(m):
        values = x.values[x.starts[k] : x.ends[k]]
        curvature[k] = 1 + slack + (values * values).sum()
    active, previous = m, np.float32(np.inf)
    for number in range(_PASSES):
        shuffle, worst, t = mix_pair(key, number), np.float32(0), 0
        while t < active:
            other = t + below(mix_pair(shuffle, t), active - t)
            order[t], order[other] = order[other], order[t]
            k = order[t]
            sign = np.float32(1 if k < n_own else -1)
            gradient = sign * (_dot(x, k, w) + bias) - 1 + slack * dual[k]
            if dual[k] == 0 and gradient > previous:
                active -= 1  # far on its side: the other passes do without
                order[t], order[active] = order[active], order[t]
                continue
            t += 1
            if dual[k] == 0:
                gradient = min(gradient, np.float32(0))
            worst = max(worst, abs(gradient))
            now = max(dual[k] - gradient / curvature[k], np.float32(0))
            if now != dual[k]:
                change = sign * (now - dual[k])
                dual[k] = now
                bias += change
                _add(x, k, change, w)
        if worst < _TOLERANCE:
            break
        previous = worst
    return bias


@njit(cache=True, nogil=True, fastmath=True, forceinline=True)
def _dot(x: _Vectors, k: int, w: NDArray[np.float32]) -> np.float32:
    """Inner product of one sparse vector with weights (width,)."""
    total = np.float32(0)
    for e in range(x.starts[k], x.ends[k]):
        total += x.values[e] * w[x.columns[e]]
    return total


@njit(cache=True, nogil=True)
def _add(x: _Vectors, k: int, scale: np.float32, w: NDArray[np.float32]) -> None:
    """Add ``scale`` times one sparse vector to weights (width,)."""
    for e in range(x.starts[k], x.ends[k]):
        w[x.columns[e]] += scale * x.values[e]


@njit(cache=True, nogil=True)
def squared_hinges(margins: NDArray[np.float32]) -> None:
    """Turn margins, an array of any shape, into their squared hinges, in place.

    Examples
    --------
    >>> margins = np.array([2, 0.5, -1], np.float32)
    >>> squared_hinges(margins)
    >>> margins.tolist()
    [0.0, 0.25, 4.0]
    """
    flat = margins.reshape(-1)
    for i in range(len(flat)):
        hinge = max(np.float32(1) - flat[i], np.float32(0))
        flat[i] = hinge * hinge
