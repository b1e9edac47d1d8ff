"""Inputs: data files read so that they fit a model, or the data it is trained on."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from slidelearn.datasets import Dataset, load_dataset
from slidelearn.datasets.streams import split_compression
from slidelearn.display import note_console
from slidelearn.errors import DataError

__all__ = ["Columns", "load_features", "load_fitting"]


class Columns(NamedTuple):
    """What a dataset's columns have to be: the widths, and names where there are any."""

    n_features: int
    n_labels: int
    feature_names: list[str] | None
    label_names: list[str] | None


def load_features(path: Path, columns: Columns) -> Dataset:
    """Read a file whose features are those of ``columns``; its labels may be any.

    Raises
    ------
    DataError
        If it cannot be read, or has fewer, more or other features.
    """
    stated = _states_widths(path)
    data = load_dataset(path, n_features=None if stated else columns.n_features)
    if data.X.shape[1] != columns.n_features:
        raise DataError(
            f"{path}: {data.X.shape[1]} features, but the model has {columns.n_features}; "
            "use a file with the features that it was trained on"
        )
    _check_feature_names(path, data.feature_names, columns.feature_names)
    return data


def load_fitting(path: Path, columns: Columns) -> Dataset:
    """Read a file whose features and labels are those of ``columns``.

    Where both have label names, the labels are matched by name. Names that ``columns`` lacks are
    left out, and standard error says how many: they can never be predicted.

    Raises
    ------
    DataError
        If it cannot be read, or has other features or labels.
    """
    data = load_features(path, columns)
    if data.label_names is not None and columns.label_names is not None:
        return data._replace(
            Y=_match_labels(path, data.Y, data.label_names, columns.label_names),
            label_names=columns.label_names,
        )
    n_labels = data.Y.shape[1]
    if n_labels < columns.n_labels and not _states_widths(path):
        shape = (data.Y.shape[0], columns.n_labels)
        return data._replace(Y=csr_matrix((data.Y.data, data.Y.indices, data.Y.indptr), shape))
    if n_labels != columns.n_labels:
        raise DataError(
            f"{path}: {n_labels} labels, but the model has {columns.n_labels}; "
            "use a file with the labels that it was trained on"
        )
    return data


def _states_widths(path: Path) -> bool:
    """Whether a file says how many features and labels there are, beyond those that occur."""
    extension = split_compression(path)[0]
    if extension == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return b"slidelearn" in (pq.read_schema(path).metadata or {})
        except pa.ArrowException:
            return True  # reading it in full names what is wrong
    return extension not in (".svm", ".svmlight", ".libsvm")


def _check_feature_names(path: Path, names: list[str] | None, known: list[str] | None) -> None:
    """Refuse features in another order, or others altogether."""
    if names is None or known is None or names == known:
        return
    place = next(i for i, (a, b) in enumerate(zip(names, known, strict=True)) if a != b)
    raise DataError(
        f"{path}: feature {place} is {names[place]!r}, but {known[place]!r} in the model; "
        "use a file with the features that it was trained on"
    )


def _match_labels(path: Path, Y: csr_matrix, names: list[str], known: list[str]) -> csr_matrix:
    """Give labels (n, l) the ids that their names have in ``known``."""
    if names == known:
        return Y
    ids = {name: i for i, name in enumerate(known)}
    new = np.array([ids.get(name, -1) for name in names], np.int64)[Y.indices]
    kept = new >= 0
    if not kept.all():
        n_unknown = len(np.unique(Y.indices[~kept]))
        note_console().print(
            f"{path}: {n_unknown} labels are unknown to the model; {(~kept).sum()} uses left out"
        )
    indptr = np.concatenate([[0], np.cumsum(kept)])[Y.indptr]
    matched = csr_matrix((Y.data[kept], new[kept], indptr), shape=(Y.shape[0], len(known)))
    matched.sort_indices()
    return matched
