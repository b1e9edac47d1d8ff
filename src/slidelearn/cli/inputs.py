"""Inputs: data files read so that they fit a model, or the data it is trained on."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
from scipy.sparse import csr_matrix

from slidelearn.csr import keep_entries, make_csr, sort_rows
from slidelearn.datasets import Dataset, load_dataset
from slidelearn.datasets.streams import split_compression
from slidelearn.display import note_console
from slidelearn.errors import ConfigError, DataError

if TYPE_CHECKING:
    from slidelearn.model import Model

__all__ = ["Columns", "load_features", "load_fitting", "load_growing", "note_reach"]


class Columns(NamedTuple):
    """What a dataset's columns have to be: the widths, and names where there are any."""

    n_features: int
    n_labels: int
    feature_names: list[str] | None
    label_names: list[str] | None

    @classmethod
    def of(cls, model: "Model") -> Self:
        """Columns that a model was trained on."""
        network = model.network
        return cls(network.n_features, network.n_labels, model.feature_names, model.label_names)


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
        return data._replace(Y=_widen(data.Y, columns.n_labels))
    if n_labels != columns.n_labels:
        raise DataError(
            f"{path}: {n_labels} labels, but the model has {columns.n_labels}; "
            "use a file with the labels that it was trained on"
        )
    return data


def load_growing(path: Path, columns: Columns) -> Dataset:
    """Read a file whose features are those of ``columns``, and whose labels may be more.

    Labels are matched by name if there are names: those that ``columns`` lacks come behind the
    others, in the order of the file. Ids stay what they are.

    Raises
    ------
    DataError
        If it cannot be read, has other features, or names where the other has none.
    """
    data, known = load_features(path, columns), columns.label_names
    if (data.label_names is None) != (known is None):
        named, bare = ("the model", path) if data.label_names is None else (path, "the model")
        raise DataError(
            f"{path}: {named} has label names and {bare} has none; new labels can be told from "
            "known ones only if both have names, or neither"
        )
    if data.label_names is not None and known is not None:
        ids = set(known)
        names = known + [name for name in data.label_names if name not in ids]
        return data._replace(
            Y=_match_labels(path, data.Y, data.label_names, names), label_names=names
        )
    return data._replace(Y=_widen(data.Y, max(data.Y.shape[1], columns.n_labels)))


def note_reach(model: "Model", recall: float | None, k: int, *, exact: bool) -> None:
    """Say on standard error what a search for k with a recall will do.

    Raises
    ------
    ConfigError
        If that is no recall, is asked of an exact scan, or was not measured.
    """
    if recall is None:
        return
    if exact:
        raise ConfigError("--exact finds everything; leave out --recall")
    reach = model.reach_for(recall, k)
    console = note_console()
    if reach is None:
        console.print(f"no search finds {recall:g} of the exact top {k}: every neuron is scored")
        return
    found = f"found {reach.checked:.3f} of the exact top {reach.k} of other training examples"
    console.print(f"searching {reach.scale:g} times as far as the settings say, which {found}")


def _states_widths(path: Path) -> bool:
    """Whether a file says how many features and labels there are, beyond those that occur."""
    extension = split_compression(path)[0]
    if extension == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return b"slidelearn" in (pq.read_schema(path).metadata or {})
        except (pa.ArrowException, UnicodeDecodeError):
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
    new = np.array([ids.get(name, -1) for name in names], np.int32)[Y.indices]
    kept = new >= 0
    if not kept.all():
        n_unknown = len(np.unique(Y.indices[~kept]))
        note_console().print(
            f"{path}: {n_unknown} labels are unknown to the model; {(~kept).sum()} uses left out"
        )
    matched = keep_entries(make_csr(Y.data, new, Y.indptr, (Y.shape[0], len(known))), kept)
    sort_rows(matched.indptr, matched.indices, matched.data)
    return matched


def _widen(Y: csr_matrix, n_labels: int) -> csr_matrix:
    """Labels with more columns, which are empty."""
    return make_csr(Y.data, Y.indices, Y.indptr, (Y.shape[0], n_labels))
