"""The wide path for labels that all examples of a batch share: products of small dense blocks.

Most features of a frequent label are in some example of a batch, and many examples have them. So
the weights of a block of labels on the features of the batch are laid out densely and multiplied
row by row; to meet them one at a time took three times as long (17 instead of 5 us an example for
a tail of 300, forward and back). Where labels are rare, as most are in a scan of all, they are met
one at a time. The sums are the same to the bit: features come in one order.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from slidelearn.rows import Rows, sparse_rows
from slidelearn.wide import Wide, move_weight

__all__ = [
    "Columns",
    "Met",
    "add_block_scores",
    "add_met_scores",
    "block_size",
    "columns_of",
    "meet_block",
    "move_met",
]

_DENSE = 16  # zeros beside a weight up to which it is quicker to multiply them, too
_LABELS = 64  # that are multiplied at a time: a few hundred kilobytes, for the second cache
_NUMBERS = 2**20  # that a block has at most: 4 MB


class Columns(NamedTuple):
    """A batch of n examples by feature: its feature k is in those from ``indptr[k]`` on.

    Attributes
    ----------
    numbers : int32 array of shape (n_features,)
        The number that each feature has in the batch, ascending; -1 where no example has it.
    indptr : int64 array of shape (n_met + 1,)
        Where the entries of each feature of the batch are.
    examples : int32 array of shape (nnz,)
        Which examples have it, ascending.
    values : float32 array of shape (nnz,)
        What it is in them.
    """

    numbers: NDArray[np.int32]
    indptr: NDArray[np.int64]
    examples: NDArray[np.int32]
    values: NDArray[np.float32]


class Met(NamedTuple):
    """Which weights m labels have on the features of a batch: those of label j from indptr[j] on.

    Attributes
    ----------
    indptr : int64 array of shape (m + 1,)
        Where each label's weights are.
    places : int64 array of shape (n_met,)
        Entries of `Wide`.
    numbers : int32 array of shape (n_met,)
        Numbers of their features in `Columns`.
    """

    indptr: NDArray[np.int64]
    places: NDArray[np.int64]
    numbers: NDArray[np.int32]


def columns_of(X: csr_matrix) -> Columns:
    """Turn a batch of examples X (n, n_features) around.

    Examples
    --------
    >>> columns = columns_of(csr_matrix(np.array([[0, 2, 1], [0, 0, 3]], np.float32)))
    >>> columns.numbers.tolist(), columns.indptr.tolist()
    ([-1, 0, 1], [0, 1, 3])
    >>> columns.examples.tolist(), columns.values.tolist()
    ([0, 0, 1], [2.0, 1.0, 3.0])
    """
    return _turn(sparse_rows(X))


@njit(cache=True, nogil=True)
def _turn(x: Rows) -> Columns:
    """Sort entries by feature."""
    numbers = np.zeros(x.width, np.int32)
    for f in x.indices:
        numbers[f] += 1
    indptr, n_met = np.zeros(len(x.indices) + 1, np.int64), 0
    for f in range(x.width):
        count, numbers[f] = numbers[f], -1
        if count > 0:
            numbers[f], indptr[n_met + 1] = n_met, indptr[n_met] + count
            n_met += 1
    indptr = indptr[: n_met + 1].copy()
    ends = indptr.copy()  # of what each feature has so far
    examples, values = np.empty(len(x.indices), np.int32), np.empty(len(x.indices), np.float32)
    for i in range(len(x.indptr) - 1):
        for e in range(x.indptr[i], x.indptr[i + 1]):
            k = numbers[x.indices[e]]
            examples[ends[k]], values[ends[k]] = i, x.values[e]
            ends[k] += 1
    return Columns(numbers, indptr, examples, values)


@njit(cache=True, nogil=True)
def block_size(columns: Columns) -> int:
    """How many labels are multiplied at a time; fewer where the batch has many features."""
    return max(1, min(_LABELS, _NUMBERS // max(len(columns.indptr) - 1, 1)))


@njit(cache=True, nogil=True)
def meet_block(columns: Columns, wide: Wide, labels: NDArray[np.integer]) -> Met:
    """Find the weights that labels (m,) have on the features of a batch."""
    most = 0
    for label in labels:
        most += wide.indptr[label + 1] - wide.indptr[label]
    indptr = np.zeros(len(labels) + 1, np.int64)
    places, numbers = np.empty(most, np.int64), np.empty(most, np.int32)
    at = 0
    for j in range(len(labels)):
        start = wide.indptr[labels[j]]
        features = wide.features[start : wide.indptr[labels[j] + 1]]
        for p in range(len(features)):  # without branches, which nobody could foresee
            number = columns.numbers[features[p]]
            places[at], numbers[at] = start + p, number
            at += 1 if number >= 0 else 0
        indptr[j + 1] = at
    return Met(indptr, places[:at].copy(), numbers[:at].copy())


@njit(cache=True, nogil=True)
def add_met_scores(columns: Columns, wide: Wide, met: Met, out: NDArray[np.float32]) -> None:
    """Add the wide scores of the m labels of ``met`` for all examples to their logits, (n, m)."""
    n_entries = 0
    for number in met.numbers:
        n_entries += columns.indptr[number + 1] - columns.indptr[number]
    if _DENSE * n_entries >= len(columns.values) * out.shape[1]:
        _add_densely(columns, wide, met, out)
    else:
        _add_one_by_one(columns, wide, met, out)


@njit(cache=True, nogil=True)
def _add_one_by_one(columns: Columns, wide: Wide, met: Met, out: NDArray[np.float32]) -> None:
    """Add each of the weights to the logits of the examples that have its feature."""
    for j in range(out.shape[1]):
        for p in range(met.indptr[j], met.indptr[j + 1]):
            weight, number = wide.weights[met.places[p]], met.numbers[p]
            for e in range(columns.indptr[number], columns.indptr[number + 1]):
                out[columns.examples[e], j] += columns.values[e] * weight


@njit(cache=True, nogil=True)
def _add_densely(columns: Columns, wide: Wide, met: Met, out: NDArray[np.float32]) -> None:
    """Add all m weights of a feature of the batch at once, zeros among them."""
    (n, m), n_met = out.shape, len(columns.indptr) - 1
    weights, scores = np.zeros((n_met, m), np.float32), np.empty((n, m), np.float32)
    for j in range(m):
        for p in range(met.indptr[j], met.indptr[j + 1]):
            weights[met.numbers[p], j] = wide.weights[met.places[p]]
    _copy(out, scores)
    for k in range(n_met):
        for e in range(columns.indptr[k], columns.indptr[k + 1]):
            _add_scaled(weights[k], columns.values[e], scores[columns.examples[e]])
    _copy(scores, out)


@njit(cache=True, nogil=True)
def move_met(
    columns: Columns, wide: Wide, met: Met, deltas: NDArray[np.float32], lr: float
) -> None:
    """Adagrad on the wide weights of m labels, by the deltas (n, m) of all examples."""
    (n, m), n_met = deltas.shape, len(columns.indptr) - 1
    gradient, rows = np.zeros((n_met, m), np.float32), np.empty((n, m), np.float32)
    _copy(deltas, rows)
    for k in range(n_met):
        for e in range(columns.indptr[k], columns.indptr[k + 1]):
            _add_scaled(rows[columns.examples[e]], columns.values[e], gradient[k])
    for j in range(m):
        for p in range(met.indptr[j], met.indptr[j + 1]):
            move_weight(wide, met.places[p], gradient[met.numbers[p], j], lr)


@njit(cache=True, nogil=True, forceinline=True)
def _copy(source: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Copy (n, m) numbers; only what lies row behind row is added up in vectors."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = source[i, j]


@njit(cache=True, nogil=True, forceinline=True)
def _add_scaled(source: NDArray[np.float32], scale: np.float32, out: NDArray[np.float32]) -> None:
    """Add ``scale`` times a row (m,) to another."""
    for j in range(len(out)):
        out[j] += scale * source[j]


@njit(cache=True, nogil=True)
def add_block_scores(
    columns: Columns, wide: Wide, labels: NDArray[np.integer], out: NDArray[np.float32]
) -> None:
    """Add the wide scores of any number of labels (m,) for all examples to their logits, (n, m)."""
    size = block_size(columns)
    for start in range(0, len(labels), size):
        end = min(start + size, len(labels))
        met = meet_block(columns, wide, labels[start:end])
        add_met_scores(columns, wide, met, out[:, start:end])
