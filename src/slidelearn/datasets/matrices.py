"""Canonical CSR matrices from whatever a user or an untrusted file holds."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, issparse

from slidelearn.csr import (
    find_disorder,
    is_canonical,
    keep_entries,
    make_csr,
    sort_rows,
    with_values,
)
from slidelearn.errors import ConfigError, DataError

__all__ = ["MAX_IDS", "as_csr_features", "as_csr_labels", "check_widths", "csr_from_arrays"]

MAX_IDS = 2**31 - 1  # ids are int32 everywhere
_BLOCK = 2**20  # entries that are checked at a time


def as_csr_features(X: Any, *, n_features: int | None = None, name: str = "X") -> csr_matrix:
    """Return `X` as a canonical float32 CSR matrix and leave `X` as it is.

    Parameters
    ----------
    X : sparse matrix or array, dense array, or list of rows, shape (n, d)
        Real numbers of any dtype, byte order and layout. Duplicate entries are added up; stored
        zeros stay.
    n_features : int, optional
        The d that `X` must have.
    name : str
        What error messages call `X`.

    Returns
    -------
    csr_matrix of float32, shape (n, d)
        Shares the memory of `X` where that was canonical float32 already.

    Raises
    ------
    DataError
        `X` is not two-dimensional and real, holds NaN, infinity or a value beyond float32, or has
        another number of features. Rows and columns count from 0.

    Examples
    --------
    >>> as_csr_features([[0, 2], [1, 0]]).data
    array([2., 1.], dtype=float32)
    """
    ready = _is_ready(X)
    matrix = X if ready else _as_csr(X, name)
    if n_features is not None and matrix.shape[1] != n_features:
        raise DataError(f"{name} has {matrix.shape[1]} features; expected {n_features}")
    return with_values(matrix, matrix.data if ready else _as_float32(matrix, name))


def _is_ready(X: Any) -> bool:
    """Whether X is a canonical float32 CSR matrix: asked first, since an example is one mostly.

    All that follows otherwise, to say what is wrong and where, takes 66 us; this takes 4.
    """
    if type(X) is not csr_matrix:
        return False
    arrays = X.data, X.indices, X.indptr
    if [array.dtype for array in arrays] != [np.float32, np.int32, np.int32]:
        return False
    one = all(array.ndim == 1 and array.flags.c_contiguous for array in arrays)
    fits = len(X.indptr) == X.shape[0] + 1 and X.shape[1] <= MAX_IDS
    return one and fits and bool(is_canonical(X.indptr, X.indices, X.data, X.shape[1]))


def as_csr_labels(Y: Any, *, n_labels: int | None = None, name: str = "Y") -> csr_matrix:
    """Return the indicator matrix `Y` as a canonical CSR matrix of ones; leave `Y` as it is.

    Parameters
    ----------
    Y : sparse matrix or array, dense array, or list of rows, shape (n, l)
        1 where the example has the label; zeros, stored or not, are no labels.
    n_labels : int, optional
        The l that `Y` must have.
    name : str
        What error messages call `Y`.

    Returns
    -------
    csr_matrix of uint8, shape (n, l)
        Every stored entry is 1.

    Raises
    ------
    DataError
        `Y` is not two-dimensional and real, holds a value other than 0 and 1, or has another
        number of labels. Rows and columns count from 0.

    Examples
    --------
    >>> as_csr_labels([[0, 1], [1, 1]]).indices
    array([1, 0, 1], dtype=int32)
    """
    matrix = _as_csr(Y, name)
    if n_labels is not None and matrix.shape[1] != n_labels:
        raise DataError(f"{name} has {matrix.shape[1]} labels; expected {n_labels}")
    data = matrix.data
    position = _find(lambda block: (block != 0) & (block != 1), data)
    if position is not None:
        raise DataError(f"{_place(name, matrix, position)} is {data[position]}; labels are 0 or 1")
    if np.count_nonzero(data) < data.size:
        matrix = keep_entries(matrix, data != 0)
    return with_values(matrix, matrix.data.astype(np.uint8, copy=False))


def csr_from_arrays(
    data: NDArray,
    indices: NDArray,
    indptr: NDArray,
    shape: tuple[int, int],
    name: str,
) -> csr_matrix:
    """Check the three arrays of an untrusted CSR matrix in full, then join them.

    Features (float data) must be sorted; labels (uint8 ones) are sorted where they are not, in
    place: they may lie in a file.

    Parameters
    ----------
    data : array of float or uint8, shape (nnz,)
        Values of features, or ones of labels.
    indices : array of int, shape (nnz,)
        Column ids.
    indptr : array of int, shape (n + 1,)
        Where each row starts.
    shape : (int, int)
        Rows and columns.
    name : str
        What error messages call the matrix.

    Returns
    -------
    csr_matrix
        Canonical; float32 features or uint8 labels.

    Raises
    ------
    DataError
        Anything is inconsistent; the message names the row, counted from 0.

    Examples
    --------
    >>> one = np.ones(1, np.uint8)
    >>> csr_from_arrays(one, np.array([2]), np.array([0, 1]), (1, 3), "Y").toarray()
    array([[0, 0, 1]], dtype=uint8)
    """
    _check_structure(data, indices, indptr, shape, name)
    matrix = make_csr(data, indices, indptr, shape)
    position = find_disorder(matrix.indptr, matrix.indices)
    if matrix.dtype != np.uint8:
        matrix = with_values(matrix, _as_float32(matrix, name))
    elif position is not None:
        sort_rows(matrix.indptr, matrix.indices, matrix.data)
        position = find_disorder(matrix.indptr, matrix.indices)
    if position is not None:
        raise DataError(_name_disorder(matrix, position, name))
    return matrix


def check_widths(n_features: int | None, n_labels: int | None) -> None:
    """Raise ConfigError unless each width is None or a possible number of columns."""
    for name, width in (("n_features", n_features), ("n_labels", n_labels)):
        if width is None:
            continue
        if isinstance(width, bool) or not isinstance(width, (int, np.integer)):
            raise ConfigError(f"{name} is {width!r}; give a whole number")
        if not 0 < width <= MAX_IDS:
            raise ConfigError(f"{name} is {width}; give 1 to {MAX_IDS}")


def _check_structure(
    data: NDArray, indices: NDArray, indptr: NDArray, shape: tuple[int, int], name: str
) -> None:
    """Refuse everything that could send compiled code out of bounds."""
    rows, columns = shape
    _check_columns(columns, name)
    if data.ndim != 1 or indices.ndim != 1 or indptr.ndim != 1:
        raise DataError(f"{name}: data, indices and indptr must have one dimension each")
    if indices.dtype.kind not in "iu" or indptr.dtype.kind not in "iu":
        raise DataError(f"{name}: indices and indptr must be integers")
    if data.dtype.kind not in "fiub":
        raise DataError(f"{name}: values of dtype {data.dtype} are not real numbers")
    if indptr.size != rows + 1:
        raise DataError(f"{name}: indptr holds {indptr.size} numbers for {rows} rows")
    falls = indptr[1:] < indptr[:-1]
    if falls.any():
        raise DataError(f"{name} row {int(falls.argmax())}: indptr decreases")
    if indptr[0] != 0 or indptr[-1] != indices.size or data.size != indices.size:
        raise DataError(
            f"{name}: indptr runs from {indptr[0]} to {indptr[-1]} over {indices.size} indices "
            f"and {data.size} values; expected 0 to one number for all three"
        )
    unsigned = indices.view(indices.dtype.str.replace("i", "u"))  # negative ids are huge there
    position = _find(lambda block: block >= columns, unsigned)
    if position is not None:
        raise DataError(
            f"{name} row {_row_of(indptr, position)}: id {indices[position]} is out of bounds; "
            f"ids must be 0 or more and less than {columns}"
        )


def _as_csr(matrix: Any, name: str) -> csr_matrix:
    """Sorted CSR without duplicates, in a dtype that may still be the user's."""
    return _sparse_to_csr(matrix, name) if issparse(matrix) else _dense_to_csr(matrix, name)


def _sparse_to_csr(matrix: Any, name: str) -> csr_matrix:
    if len(matrix.shape) != 2:
        raise DataError(f"{name} has {len(matrix.shape)} dimension(s); expected 2")
    _check_dtype(matrix.dtype, name)
    if not matrix.dtype.isnative:
        matrix = matrix.astype(matrix.dtype.newbyteorder("="))
    try:
        if matrix.format in ("csr", "csc", "bsr"):
            # The full check would widen the columns of a user's CSR matrix; ours is below.
            matrix.check_format(full_check=matrix.format != "csr")
        csr = matrix.tocsr()
    except ValueError as error:
        raise DataError(f"{name} is a malformed sparse matrix: {error}") from None
    stored = int(csr.indptr[-1])
    arrays = csr.data[:stored], csr.indices[:stored], csr.indptr
    _check_structure(*arrays, csr.shape, name)
    csr = make_csr(*arrays, csr.shape)
    if find_disorder(csr.indptr, csr.indices) is None:
        return csr
    # Sums are taken in float64: small integers would wrap around.
    dtype = csr.dtype if csr.dtype == bool else np.float64
    csr = with_values(csr, csr.data.astype(dtype)).copy()
    csr.sum_duplicates()
    return make_csr(csr.data, csr.indices, csr.indptr, csr.shape)


def _dense_to_csr(matrix: Any, name: str) -> csr_matrix:
    try:
        dense = np.asarray(matrix)
    except ValueError:
        raise DataError(f"{name} is ragged; every row needs the same number of columns") from None
    if dense.ndim != 2:
        raise DataError(f"{name} has {dense.ndim} dimension(s); expected 2, one row an example")
    _check_dtype(dense.dtype, name)
    _check_columns(dense.shape[1], name)
    rows, columns = np.nonzero(dense)
    data = dense[rows, columns]
    indptr = np.searchsorted(rows, np.arange(dense.shape[0] + 1))
    data = data.astype(data.dtype.newbyteorder("="), copy=False)
    if data.dtype == np.float16:
        data = data.astype(np.float32)  # SciPy has no float16
    return make_csr(data, columns, indptr, dense.shape)


def _check_columns(columns: int, name: str) -> None:
    if not 0 <= columns <= MAX_IDS:
        raise DataError(f"{name} has {columns} columns; at most {MAX_IDS} are possible")


def _check_dtype(dtype: np.dtype, name: str) -> None:
    if dtype.kind not in "fiub":
        raise DataError(f"{name} has dtype {dtype}; expected real numbers")


def _as_float32(matrix: csr_matrix, name: str) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        data: NDArray[np.float32] = matrix.data.astype(np.float32, copy=False)
    position = _find(lambda block: ~np.isfinite(block), data)
    if position is not None:
        value = matrix.data[position]
        problem = "overflows float32" if np.isfinite(value) else "is not finite"
        raise DataError(f"{_place(name, matrix, position)}: value {value} {problem}")
    return data


def _find(wrong: Callable[[NDArray], NDArray[np.bool_]], values: NDArray) -> int | None:
    """Return the first place where values are wrong, looked for block by block."""
    for start in range(0, values.size, _BLOCK):
        marks = wrong(values[start : start + _BLOCK])
        if marks.any():
            return start + int(marks.argmax())
    return None


def _name_disorder(matrix: csr_matrix, position: int, name: str) -> str:
    """Say what is wrong with a column that is not greater than the one before it."""
    before, after = matrix.indices[position - 1], matrix.indices[position]
    place = f"{name} row {_row_of(matrix.indptr, position)}"
    if before == after:
        return f"{place}: id {after} appears twice"
    return f"{place}: id {after} comes after id {before}; sort the ids of a row"


def _place(name: str, matrix: csr_matrix, position: int) -> str:
    return f"{name} row {_row_of(matrix.indptr, position)}, column {matrix.indices[position]}"


def _row_of(indptr: NDArray, position: int) -> int:
    return int(np.searchsorted(indptr, position, side="right")) - 1
