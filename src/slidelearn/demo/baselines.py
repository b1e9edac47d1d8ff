"""What a trained model has to beat: frequent labels, and the labels of similar examples."""

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from slidelearn.errors import ConfigError, DataError

__all__ = ["nearest_neighbours", "popularity"]

_BLOCK_BYTES = 64 * 2**20  # of similarities at a time
_ENTRY_BYTES = 12  # a float32 and its column

Ids = NDArray[np.integer]
Floats = NDArray[np.floating]


def popularity(Y_train: csr_matrix, n: int, k: int = 5) -> NDArray[np.int64]:
    """The k most frequent labels of training, the same for each of n examples.

    Parameters
    ----------
    Y_train : csr_matrix (n_train, n_labels)
        Labels of the training examples.
    n : int
        Examples to answer for.
    k : int
        Labels to rank.

    Returns
    -------
    int64 array (n, k)
        Label ids, the most frequent first and equals by id; -1 where there are fewer labels.

    Examples
    --------
    >>> popularity(csr_matrix([[0, 1, 1], [0, 0, 1]]), n=1, k=2).tolist()
    [[2, 1]]
    """
    frequency = np.bincount(Y_train.indices, minlength=Y_train.shape[1])
    top = np.full(k, -1, dtype=np.int64)
    ranked = np.argsort(-frequency, kind="stable")[:k]
    top[: len(ranked)] = ranked
    return np.tile(top, (n, 1))


def nearest_neighbours(
    X_train: csr_matrix, Y_train: csr_matrix, X: csr_matrix, k: int = 5, *, n_neighbours: int = 10
) -> NDArray[np.int64]:
    """The labels of the most similar training examples, each weighted by its cosine.

    Exact, and in bounded memory: examples are compared with training in blocks of rows.

    Parameters
    ----------
    X_train : csr_matrix (n_train, n_features)
        Features of the training examples, rows of length 1.
    Y_train : csr_matrix (n_train, n_labels)
        Their labels.
    X : csr_matrix (n, n_features)
        Examples to answer for, rows of length 1.
    k : int
        Labels to rank.
    n_neighbours : int
        Training examples that vote for an example.

    Returns
    -------
    int64 array (n, k)
        Label ids, the heaviest first and equals by id; -1 where the neighbours have fewer labels.

    Raises
    ------
    DataError
        If the shapes disagree.
    ConfigError
        If `k` or `n_neighbours` is below 1.

    Examples
    --------
    >>> X, Y = csr_matrix([[1.0, 0.0], [0.0, 1.0]]), csr_matrix([[1, 0, 0], [0, 1, 1]])
    >>> nearest_neighbours(X, Y, csr_matrix([[0.6, 0.8]]), k=3).tolist()
    [[1, 2, 0]]
    """
    _check(X_train, Y_train, X, k, n_neighbours)
    n, n_train = X.shape[0], X_train.shape[0]
    top = np.full((n, k), -1, dtype=np.int64)
    block = max(1, _BLOCK_BYTES // (_ENTRY_BYTES * max(n_train, 1)))
    by_feature = X_train.T.tocsr()
    for start in range(0, n, block):
        cosines = X[start : start + block] @ by_feature  # (block, n_train), sparse
        near, cosine = _top_of_rows(cosines, n_neighbours)
        votes = _as_rows(near, cosine, n_train) @ Y_train  # (block, n_labels), sparse
        top[start : start + block], _ = _top_of_rows(votes, k)
    return top


def _check(
    X_train: csr_matrix, Y_train: csr_matrix, X: csr_matrix, k: int, n_neighbours: int
) -> None:
    if X_train.shape[0] != Y_train.shape[0]:
        raise DataError(
            f"X_train has {X_train.shape[0]} rows but Y_train has {Y_train.shape[0]}; "
            "pass the same examples"
        )
    if X_train.shape[1] != X.shape[1]:
        raise DataError(
            f"X_train has {X_train.shape[1]} features but X has {X.shape[1]}; use one encoder"
        )
    for name, value in (("k", k), ("n_neighbours", n_neighbours)):
        if value < 1:
            raise ConfigError(f"{name} is {value}; it must be at least 1")


def _as_rows(ids: Ids, values: Floats, n_columns: int) -> csr_matrix:
    """A sparse matrix with values[i, j] at column ids[i, j] of row i; ids of -1 are left out."""
    present = ids >= 0
    indptr = np.concatenate([[0], np.cumsum(present.sum(axis=1))])
    return csr_matrix((values[present], ids[present], indptr), shape=(len(ids), n_columns))


def _top_of_rows(scores: csr_matrix, k: int) -> tuple[NDArray[np.int64], Floats]:
    """Columns and values of the k largest positive entries of each row; -1 where there are none."""
    ids = np.full((scores.shape[0], k), -1, dtype=np.int64)
    values = np.zeros((scores.shape[0], k), dtype=scores.dtype)
    _select_top(scores.indptr, scores.indices, scores.data, ids, values)
    return ids, values


@njit(cache=True, nogil=True)
def _select_top(indptr: Ids, indices: Ids, data: Floats, ids: Ids, values: Floats) -> None:
    """Insert each positive entry of a row where it belongs among the best; equals by column.

    indptr: (n + 1,); indices, data: (nnz,); ids: (n, k), -1 at first; values: (n, k), 0 at first.
    """
    last = ids.shape[1] - 1
    for i in range(ids.shape[0]):
        for entry in range(indptr[i], indptr[i + 1]):
            value, column = data[entry], indices[entry]
            if value < values[i, last] or value <= 0:
                continue
            if value == values[i, last] and column > ids[i, last]:
                continue
            j = last
            while j > 0 and (
                values[i, j - 1] < value or (values[i, j - 1] == value and ids[i, j - 1] > column)
            ):
                values[i, j] = values[i, j - 1]
                ids[i, j] = ids[i, j - 1]
                j -= 1
            values[i, j] = value
            ids[i, j] = column
