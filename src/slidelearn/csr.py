"""CSR matrices of any number of entries: made, cut, joined, sorted and counted.

SciPy keeps columns in the type that row starts need. Beyond 2^31 - 1 entries its constructor and
most of its methods turn every column into an int64, in memory: 17 GB and more. The matrices here
have int32 columns always, and int64 row starts where there are so many entries; up to there they
are what SciPy makes. Methods of SciPy are for pieces of them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

__all__ = [
    "copy_csr",
    "count_ids",
    "cut_rows",
    "find_disorder",
    "is_canonical",
    "keep_entries",
    "make_csr",
    "slice_rows",
    "sort_rows",
    "stack_rows",
    "take_entries",
    "take_rows",
    "with_values",
]

_MOST = 2**31 - 1  # entries that int32 row starts count


def make_csr(
    data: NDArray, indices: NDArray, indptr: NDArray, shape: tuple[int, int]
) -> csr_matrix:
    """Join the arrays of a matrix, which must fit each other; nothing is checked.

    Columns that are int32, and the data, are not copied.

    Examples
    --------
    >>> make_csr(np.ones(2), np.array([0, 2]), np.array([0, 1, 2]), (2, 3)).toarray()
    array([[1., 0., 0.],
           [0., 0., 1.]])
    """
    matrix = csr_matrix(shape, dtype=data.dtype)
    matrix.data, matrix.indices = data, indices.astype(np.int32, copy=False)
    matrix.indptr = indptr.astype(np.int32 if indptr[-1] <= _MOST else np.int64, copy=False)
    return matrix


def with_values(X: csr_matrix, data: NDArray) -> csr_matrix:
    """Return the matrix with other values (nnz,); the places are shared.

    SciPy's constructor takes as long as a third of a prediction, `copy` four times as long as this.

    Examples
    --------
    >>> with_values(csr_matrix([[0, 1], [2, 0]]), np.array([5, 6])).toarray().tolist()
    [[0, 5], [6, 0]]
    """
    other = object.__new__(type(X))
    other.__dict__.update(X.__dict__, data=data)
    return other


def copy_csr(X: csr_matrix) -> csr_matrix:
    """Copy a matrix."""
    return make_csr(X.data.copy(), X.indices.copy(), X.indptr.copy(), X.shape)


def slice_rows(X: csr_matrix, start: int, end: int) -> csr_matrix:
    """Rows start to end, as far as there are so many; a view.

    Examples
    --------
    >>> slice_rows(csr_matrix([[1, 0], [0, 2], [3, 4]]), 1, 9).toarray().tolist()
    [[0, 2], [3, 4]]
    """
    indptr, own = cut_rows(X.indptr, start, end)
    return make_csr(X.data[own], X.indices[own], indptr, (len(indptr) - 1, X.shape[1]))


def cut_rows(indptr: NDArray[Any], start: int, end: int) -> tuple[NDArray[Any], slice]:
    """Cut out rows start to end, as far as there are so many: their starts, and which entries.

    Examples
    --------
    >>> starts, own = cut_rows(np.array([0, 2, 3, 7]), 1, 9)
    >>> starts.tolist(), np.arange(7)[own].tolist()
    ([0, 1, 5], [2, 3, 4, 5, 6])
    """
    part = indptr[start : end + 1]
    return part - part[0], slice(part[0], part[-1])


def take_rows(X: csr_matrix, rows: NDArray[np.integer]) -> csr_matrix:
    """Some rows, in any order, copied.

    Examples
    --------
    >>> take_rows(csr_matrix([[1, 0], [0, 2], [3, 4]]), np.array([2, 0])).toarray().tolist()
    [[3, 4], [1, 0]]
    """
    indptr, indices, data = take_entries(X.indptr, X.indices, X.data, rows)
    return make_csr(data, indices, indptr, (len(rows), X.shape[1]))


def take_entries(
    indptr: NDArray[Any], indices: NDArray[Any], data: NDArray[Any], rows: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]]:
    """Row starts, and what indices and data (nnz,) hold of some rows, in any order, copied.

    Examples
    --------
    >>> taken = take_entries(np.array([0, 1, 3]), np.arange(3), np.arange(3.0), np.array([1, 0]))
    >>> [array.tolist() for array in taken]
    [[0, 2, 3], [1, 2, 0], [1.0, 2.0, 0.0]]
    """
    starts = indptr[rows].astype(np.int64, copy=False)
    taken = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(indptr[rows + 1] - starts, out=taken[1:])
    out_indices, out_data = np.empty(taken[-1], indices.dtype), np.empty(taken[-1], data.dtype)
    _copy_rows(indices, data, starts, taken, out_indices, out_data)
    return taken, out_indices, out_data


def stack_rows(parts: Sequence[csr_matrix]) -> csr_matrix:
    """Put the rows of matrices of one width one behind the other.

    Examples
    --------
    >>> stack_rows([csr_matrix([[1, 0]]), csr_matrix([[0, 2], [3, 4]])]).toarray().tolist()
    [[1, 0], [0, 2], [3, 4]]
    """
    lengths = np.concatenate([np.diff(part.indptr) for part in parts])
    indptr = np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)))
    indices = np.concatenate([part.indices for part in parts])
    data = np.concatenate([part.data for part in parts])
    return make_csr(data, indices, indptr, (len(lengths), parts[0].shape[1]))


def keep_entries(X: csr_matrix, marks: NDArray[np.bool_]) -> csr_matrix:
    """Keep the stored entries that are marked, (nnz,), copied.

    Examples
    --------
    >>> keep_entries(csr_matrix([[1, 5], [0, 2]]), np.array([False, True, True])).toarray().tolist()
    [[0, 5], [0, 2]]
    """
    indptr = np.zeros(len(X.indptr), np.int64)
    _count_marks(X.indptr, marks, indptr)
    return make_csr(X.data[marks], X.indices[marks], indptr, X.shape)


def find_disorder(indptr: NDArray[np.integer], indices: NDArray[np.integer]) -> int | None:
    """Find the first entry whose column is not greater than that of the entry before, in its row.

    Examples
    --------
    >>> find_disorder(np.array([0, 2, 4]), np.array([3, 7, 1, 1])), find_disorder([0], [])
    (3, None)
    """
    place = _find_disorder(np.asarray(indptr), np.asarray(indices))
    return None if place < 0 else int(place)


@njit(cache=True, nogil=True)
def is_canonical(
    indptr: NDArray[np.integer], indices: NDArray[np.integer], data: NDArray, n_columns: int
) -> bool:
    """Whether columns ascend in every row and exist, values (nnz,) are finite, and all fits.

    Examples
    --------
    >>> starts, columns = np.array([0, 2, 3]), np.array([1, 4, 0])
    >>> is_canonical(starts, columns, np.ones(3), 5), is_canonical(starts, columns, np.ones(3), 4)
    (True, False)
    """
    if indptr[0] != 0 or indptr[-1] != len(indices) or len(indices) != len(data):
        return False
    for i in range(len(indptr) - 1):
        if indptr[i + 1] < indptr[i] or indptr[i + 1] > len(indices):
            return False
        before = -1
        for e in range(indptr[i], indptr[i + 1]):
            if indices[e] <= before or indices[e] >= n_columns or not np.isfinite(data[e]):
                return False
            before = indices[e]
    return True


@njit(cache=True, nogil=True)
def sort_rows(indptr: NDArray[np.integer], indices: NDArray[np.integer], data: NDArray) -> None:
    """Sort the entries, columns and data (nnz,), of every row by column, in place.

    Examples
    --------
    >>> indices, data = np.array([3, 2, 1]), np.array([30, 20, 10])
    >>> sort_rows(np.array([0, 2, 3]), indices, data)
    >>> indices.tolist(), data.tolist()
    ([2, 3, 1], [20, 30, 10])
    """
    for i in range(len(indptr) - 1):
        columns, values = indices[indptr[i] : indptr[i + 1]], data[indptr[i] : indptr[i + 1]]
        # Not np.argsort: beside a cached kernel that sorts, Numba may call one for the other.
        keys, before = np.empty(len(columns), np.int64), values.copy()
        for j in range(len(columns)):
            keys[j] = (np.int64(columns[j]) << 32) | j
        keys.sort()
        for j in range(len(columns)):
            columns[j], values[j] = keys[j] >> 32, before[keys[j] & 0xFFFFFFFF]


def count_ids(ids: NDArray[np.integer], size: int) -> NDArray[np.int64]:
    """Count how often each id below ``size`` occurs.

    np.bincount would make a copy of twice the size.

    Examples
    --------
    >>> count_ids(np.array([1, 1, 0]), 3).tolist()
    [1, 2, 0]
    """
    counts = np.zeros(size, np.int64)
    _count_ids(ids, counts)
    return counts


@njit(cache=True, nogil=True)
def _copy_rows(
    indices: NDArray[np.integer],
    data: NDArray,
    starts: NDArray[np.int64],
    indptr: NDArray[np.int64],
    out_indices: NDArray[np.integer],
    out_data: NDArray,
) -> None:
    """Copy the m rows that begin at starts (m,) to where indptr (m + 1,) wants them.

    A loop over slices becomes one call of memcpy: a fifth of the time.
    """
    for i in range(len(starts)):
        start, end = starts[i], starts[i] + indptr[i + 1] - indptr[i]
        columns, out_columns = indices[start:end], out_indices[indptr[i] : indptr[i + 1]]
        for j in range(len(columns)):
            out_columns[j] = columns[j]
        values, out_values = data[start:end], out_data[indptr[i] : indptr[i + 1]]
        for j in range(len(values)):
            out_values[j] = values[j]


@njit(cache=True, nogil=True)
def _count_marks(
    indptr: NDArray[np.integer], marks: NDArray[np.bool_], out: NDArray[np.int64]
) -> None:
    """Count the marked entries (nnz,) before every row, out (n + 1,)."""
    kept = 0
    for i in range(len(indptr) - 1):
        for mark in marks[indptr[i] : indptr[i + 1]]:
            kept += mark
        out[i + 1] = kept


@njit(cache=True, nogil=True)
def _find_disorder(indptr: NDArray[np.integer], indices: NDArray[np.integer]) -> int:
    """Find the first of columns (nnz,) that does not exceed the one before in its row, or -1."""
    for i in range(len(indptr) - 1):
        row, falls = indices[indptr[i] : indptr[i + 1]], False
        for j in range(1, len(row)):  # to the end: a loop that may be left takes twice as long
            falls |= row[j] <= row[j - 1]
        if falls:
            j = 1
            while row[j] > row[j - 1]:
                j += 1
            return int(indptr[i]) + j
    return -1


@njit(cache=True, nogil=True)
def _count_ids(ids: NDArray[np.integer], counts: NDArray[np.int64]) -> None:
    """Count how often each of ids (nnz,) occurs, counts (size,)."""
    for id_ in ids:
        counts[id_] += 1
