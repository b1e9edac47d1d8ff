"""Choosing a file format by the extension of a path."""

import os
from importlib import import_module
from types import ModuleType

from slidelearn.datasets.dataset import Dataset, check_dataset
from slidelearn.datasets.streams import split_compression
from slidelearn.errors import DataError

__all__ = ["convert", "load_dataset", "save_dataset"]

_Path = str | os.PathLike[str]

# Each module has `load` and `save`; it is imported when first needed.
_MODULES = {
    ".txt": "xmc",
    ".xmc": "xmc",
    ".svm": "svmlight",
    ".svmlight": "svmlight",
    ".libsvm": "svmlight",
    ".npz": "npz",
    ".parquet": "parquet",
}
_TEXT = ("xmc", "svmlight")


def load_dataset(
    path: _Path, *, n_features: int | None = None, n_labels: int | None = None
) -> Dataset:
    """Read a dataset in the format that the extension of `path` names.

    Known are .txt and .xmc (XMC text), .svm, .svmlight and .libsvm (one-based feature ids; for
    others call `svmlight.load`), each also with .gz or .zst behind it, .npz and .parquet.

    Parameters
    ----------
    path : str or path-like
        The file.
    n_features, n_labels : int, optional
        The widths; they take the place of those that the file states or implies.

    Returns
    -------
    Dataset
        Checked in full: canonical, finite, every id in bounds.

    Raises
    ------
    DataError
        The extension is unknown or the file is malformed; names the file and the line or row.
    ConfigError
        A width is not a positive whole number.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "tiny.txt"
    >>> _ = path.write_text("2 4 3\\n0,2 1:0.5 3:2\\n 0:1\\n")
    >>> load_dataset(path).X.shape
    (2, 4)
    """
    dataset: Dataset = _module(path).load(path, n_features=n_features, n_labels=n_labels)
    return dataset


def save_dataset(dataset: Dataset, path: _Path) -> None:
    """Write a dataset in the format that the extension of `path` names; see `load_dataset`.

    The file appears whole or not at all. Values are exact: reading returns the same bits.

    Parameters
    ----------
    dataset : Dataset
        What to write; it is checked first.
    path : str or path-like
        The file to create or replace.

    Raises
    ------
    DataError
        The extension is unknown, the dataset is malformed, it has names that the format cannot
        hold, or the file cannot be written.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "tiny.txt"
    >>> save_dataset(Dataset([[0.5, 0.0]], [[0, 1]]), path)
    >>> path.read_text()
    '1 2 2\\n1 0:0.5\\n'
    """
    module = _module(path)
    module.save(check_dataset(dataset), path)


def convert(source: _Path, target: _Path) -> None:
    """Read `source` and write `target`, each in the format that its extension names.

    Parameters
    ----------
    source, target : str or path-like
        See `load_dataset` for the extensions.

    Raises
    ------
    DataError
        As `load_dataset` and `save_dataset` do.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> save_dataset(Dataset([[0.5, 0.0]], [[0, 1]]), folder / "tiny.npz")
    >>> convert(folder / "tiny.npz", folder / "tiny.svm")
    """
    _module(target)  # an unknown extension is found before the work of reading
    save_dataset(load_dataset(source), target)


def _module(path: _Path) -> ModuleType:
    extension, codec = split_compression(path)
    name = _MODULES.get(extension)
    if os.path.isdir(path):
        raise DataError(f"{path}: is a folder; give a file in it")
    if name is None:
        known = ", ".join(_MODULES)
        raise DataError(f"{path}: unknown extension {extension!r}; known are {known}")
    if codec is not None and name not in _TEXT:
        raise DataError(f"{path}: {extension} files hold their own compression; drop .gz or .zst")
    return import_module(f"slidelearn.datasets.{name}")
