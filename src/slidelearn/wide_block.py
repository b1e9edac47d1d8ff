"""The wide path for labels that all examples of a batch share: products of small dense blocks.

Most features of a frequent label are in some example of a batch, and many examples have them. So
the weights of a block of labels on the features of the batch are laid out densely and multiplied
row by row; to meet them one at a time took three times as long (17 instead of 5 us an example for
a tail of 300, forward and back).
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from slidelearn.rows import Rows, sparse_rows
from slidelearn.wide import Wide, move_weight
from slidelearn.workers import pieces

__all__ = [
    "BLOCK",
    "Columns",
    "Met",
    "add_block_scores",
    "add_met_scores",
    "columns_of",
    "meet_block",
    "move_met",
]

BLOCK = 64  # labels that are multiplied at a time: a few hundred kilobytes, for the second cache


class Columns(NamedTuple):
    """A batch of n examples by feature: its feature k is in those from ``indptr[k]`` on.

    Attributes
    ----------
    numbers : int32 array of shape (n_features,)
        The number that each feature has in the batch; -1 where no example has it.
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
    """Turn a batch of examples X (n, n_features) around; features count as they first come.

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
    numbers, counts = np.full(x.width, -1, np.int32), np.empty(len(x.indices), np.int64)
    n_met = 0
    for f in x.indices:
        if numbers[f] < 0:
            numbers[f], counts[n_met] = n_met, 0
            n_met += 1
        counts[numbers[f]] += 1
    indptr = np.zeros(n_met + 1, np.int64)
    for k in range(n_met):
        indptr[k + 1] = indptr[k] + counts[k]
        counts[k] = indptr[k]  # where its next entry comes
    examples, values = np.empty(len(x.indices), np.int32), np.empty(len(x.indices), np.float32)
    for i in range(len(x.indptr) - 1):
        for e in range(x.indptr[i], x.indptr[i + 1]):
            k = numbers[x.indices[e]]
            examples[counts[k]], values[counts[k]] = i, x.values[e]
            counts[k] += 1
    return Columns(numbers, indptr, examples, values)


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


def add_block_scores(
    columns: Columns, wide: Wide, labels: NDArray[np.integer], out: NDArray[np.float32]
) -> None:
    """Add the wide scores of any number of labels (m,) for all examples to their logits, (n, m)."""
    for start, end in pieces(len(labels), BLOCK):
        met = meet_block(columns, wide, labels[start:end])
        add_met_scores(columns, wide, met, out[:, start:end])
