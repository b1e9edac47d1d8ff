"""The dataset: sparse features, sparse labels and their names."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from slidelearn.datasets.matrices import MAX_IDS, as_csr_features, as_csr_labels
from slidelearn.errors import DataError

__all__ = ["Dataset", "check_dataset", "refuse_names", "row_pieces"]


class Dataset(NamedTuple):
    """Examples with their features and labels.

    Attributes
    ----------
    X : csr_matrix of float32, shape (n, d)
        Features; canonical (sorted, no duplicates). Stored zeros are legal.
    Y : csr_matrix of uint8, shape (n, l)
        Labels; canonical, every stored entry is 1.
    label_names : list of str, optional
        One name for each of the l labels.
    feature_names : list of str, optional
        One name for each of the d features.

    Examples
    --------
    >>> from scipy.sparse import csr_matrix
    >>> Dataset(csr_matrix([[0.5, 0.0]]), csr_matrix([[1, 0, 1]])).Y.shape
    (1, 3)
    """

    X: csr_matrix
    Y: csr_matrix
    label_names: list[str] | None = None
    feature_names: list[str] | None = None


def check_dataset(dataset: Dataset) -> Dataset:
    """Return `dataset` with canonical matrices, or say why that cannot be.

    Parameters
    ----------
    dataset : Dataset
        Its matrices may be anything that `as_csr_features` and `as_csr_labels` accept.

    Returns
    -------
    Dataset
        The same examples; nothing is copied where it was canonical already.

    Raises
    ------
    DataError
        A matrix is malformed or has too many rows, X and Y differ in rows, or the names do not
        fit the columns.

    Examples
    --------
    >>> check_dataset(Dataset([[0.5]], [[1]])).X.dtype
    dtype('float32')
    """
    X = as_csr_features(dataset.X)
    Y = as_csr_labels(dataset.Y)
    if X.shape[0] > MAX_IDS:
        raise DataError(f"X has {X.shape[0]} rows; a dataset has at most {MAX_IDS}")
    if X.shape[0] != Y.shape[0]:
        raise DataError(f"X has {X.shape[0]} rows but Y has {Y.shape[0]}; give one row an example")
    for kind, names, size in (
        ("label_names", dataset.label_names, Y.shape[1]),
        ("feature_names", dataset.feature_names, X.shape[1]),
    ):
        _check_names(kind, names, size)
    return Dataset(X, Y, dataset.label_names, dataset.feature_names)


def _check_names(kind: str, names: list[str] | None, size: int) -> None:
    if names is None:
        return
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{kind} must be a list of strings")
    if len(names) != size:
        raise DataError(f"{kind} holds {len(names)} names for {size} columns; give one a column")


def refuse_names(dataset: Dataset, path: object) -> None:
    """Raise DataError when `dataset` has names, which the text formats cannot hold."""
    if dataset.label_names is not None or dataset.feature_names is not None:
        raise DataError(
            f"{path}: a text format cannot hold names; write .npz or .parquet, "
            "or set label_names and feature_names to None"
        )


def row_pieces(dataset: Dataset, size: int) -> Iterator[tuple[int, int]]:
    """Cut the rows into consecutive ranges of about `size` stored entries and rows together."""
    X, Y = dataset.X, dataset.Y
    work = X.indptr.astype(np.int64) + Y.indptr + np.arange(X.shape[0] + 1)  # (n + 1,)
    start = 0
    while start < X.shape[0]:
        stop = int(np.searchsorted(work, work[start] + size, side="right")) - 1
        stop = max(stop, start + 1)
        yield start, stop
        start = stop
