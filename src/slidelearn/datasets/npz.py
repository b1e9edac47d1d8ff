"""NumPy archives: one .npz file with both matrices; pickles are never loaded.

Written are `X_data`, `X_indices`, `X_indptr`, `X_shape`, the same four for `Y`, and `label_names`
and `feature_names` where the dataset has them. Read are also a dense `X`, and labels as a dense
indicator matrix or as class ids (one a row) under `Y` or `y`.
"""

import math
import os
import zipfile
import zlib
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from slidelearn.datasets.dataset import Dataset, check_dataset
from slidelearn.datasets.matrices import (
    as_csr_features,
    as_csr_labels,
    check_widths,
    csr_from_arrays,
)
from slidelearn.datasets.streams import file_errors
from slidelearn.errors import DataError
from slidelearn.files import atomic_write

__all__ = ["load", "save"]

_PARTS = ("data", "indices", "indptr", "shape")
_HEADER_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def load(
    path: str | os.PathLike[str], *, n_features: int | None = None, n_labels: int | None = None
) -> Dataset:
    """Read a dataset from an .npz archive.

    Parameters
    ----------
    path : str or path-like
        The file.
    n_features, n_labels : int, optional
        Widths that take the place of the archive's.

    Returns
    -------
    Dataset
        X (n, d) float32 and Y (n, l) uint8; stored zeros stay.

    Raises
    ------
    DataError
        The archive is truncated or corrupt, lacks an array, or its arrays do not form canonical,
        finite matrices; the message names the array and the row, counted from 0.
    ConfigError
        A width is not a positive whole number.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "digits.npz"
    >>> np.savez(path, X=np.eye(3), y=np.array([2, 0, 1]))
    >>> load(path).Y.indices
    array([2, 0, 1], dtype=int32)
    """
    check_widths(n_features, n_labels)
    arrays = _read_arrays(path)
    try:
        X = _read_features(arrays, n_features)
        Y = _read_labels(arrays, n_labels)
        names = (_read_names(arrays, kind) for kind in ("label_names", "feature_names"))
        return check_dataset(Dataset(X, Y, *names))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def save(dataset: Dataset, path: str | os.PathLike[str]) -> None:
    """Write a dataset to an .npz archive.

    Parameters
    ----------
    dataset : Dataset
        Canonical matrices.
    path : str or path-like
        The file to create or replace, whole or not at all.

    Raises
    ------
    DataError
        A name ends in a NUL character, which NumPy drops, or the file cannot be written.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "tiny.npz"
    >>> save(check_dataset(Dataset([[0.5]], [[1]], ["yes"])), path)
    >>> load(path).label_names
    ['yes']
    """
    arrays: dict[str, NDArray] = {}
    for name, matrix in (("X", dataset.X), ("Y", dataset.Y)):
        for part in _PARTS:
            arrays[f"{name}_{part}"] = np.asarray(getattr(matrix, part))
    for kind in ("label_names", "feature_names"):
        names = getattr(dataset, kind)
        if names is not None:
            arrays[kind] = np.array(names, dtype=str)
            if arrays[kind].tolist() != names:
                raise DataError(f"{path}: a name in {kind} ends in a NUL character; remove it")
    with file_errors(path), atomic_write(path) as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def _read_arrays(path: str | os.PathLike[str]) -> dict[str, NDArray]:
    try:
        with file_errors(path), zipfile.ZipFile(path) as archive:
            return {
                member.filename.removesuffix(".npy"): _read_member(archive, member)
                for member in archive.infolist()
            }
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path}: not an .npz archive, truncated or corrupt ({error})") from None
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"{path}: an array is malformed ({error})") from None


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray:
    with archive.open(member) as stream:
        _check_size(stream, member)
    with archive.open(member) as stream:
        array: NDArray = npy.read_array(stream, allow_pickle=False)
    return array


def _check_size(stream: Any, member: zipfile.ZipInfo) -> None:
    """Compare the size an array states with the size it has, before memory is taken for it."""
    version = npy.read_magic(stream)
    if version not in _HEADER_READERS:
        raise ValueError(f"{member.filename} has the unknown npy version {version}")
    shape, _, dtype = _HEADER_READERS[version](stream)
    stated = math.prod(shape) * dtype.itemsize
    held = member.file_size - stream.tell()
    if dtype.hasobject:
        raise ValueError(f"{member.filename} holds Python objects, which are never loaded")
    if stated != held:
        raise ValueError(f"{member.filename} states {stated} bytes and holds {held}")


def _read_features(arrays: dict[str, NDArray], n_features: int | None) -> csr_matrix:
    if "X" in arrays:
        return _widen(as_csr_features(arrays["X"]), n_features, "X")
    return _read_csr(arrays, "X", n_features)


def _read_labels(arrays: dict[str, NDArray], n_labels: int | None) -> csr_matrix:
    dense = [name for name in ("Y", "y") if name in arrays]
    if not dense:
        return _read_csr(arrays, "Y", n_labels)
    labels = arrays[dense[0]]
    if labels.ndim == 1:
        return _from_class_ids(labels, n_labels, dense[0])
    return _widen(as_csr_labels(labels, name=dense[0]), n_labels, dense[0])


def _read_csr(arrays: dict[str, NDArray], name: str, width: int | None) -> csr_matrix:
    missing = [f"{name}_{part}" for part in _PARTS if f"{name}_{part}" not in arrays]
    if missing:
        found = ", ".join(sorted(arrays)) or "nothing"
        raise DataError(f"array {missing[0]} is missing; the archive holds {found}")
    data, indices, indptr, shape = (arrays[f"{name}_{part}"] for part in _PARTS)
    if shape.shape != (2,) or shape.dtype.kind not in "iu":
        raise DataError(f"{name}_shape must be two integers")
    if name == "Y":
        if not (data == 1).all():
            raise DataError("Y_data must be all ones")
        data = data.astype(np.uint8)
    rows, columns = (int(size) for size in shape)
    return csr_from_arrays(data, indices, indptr, (rows, width or columns), name)


def _from_class_ids(labels: NDArray, n_labels: int | None, name: str) -> csr_matrix:
    if labels.dtype.kind not in "iu":
        raise DataError(f"{name} has dtype {labels.dtype}; class ids must be integers")
    width = n_labels or (int(labels.max()) + 1 if labels.size else 0)
    ones = np.ones(labels.size, np.uint8)
    indptr = np.arange(labels.size + 1)
    return csr_from_arrays(ones, labels, indptr, (labels.size, width), name)


def _widen(matrix: csr_matrix, width: int | None, name: str) -> csr_matrix:
    if width is None:
        return matrix
    shape = (matrix.shape[0], width)
    return csr_from_arrays(matrix.data, matrix.indices, matrix.indptr, shape, name)


def _read_names(arrays: dict[str, NDArray], kind: str) -> list[str] | None:
    if kind not in arrays:
        return None
    names = arrays[kind]
    if names.ndim != 1 or names.dtype.kind != "U":
        raise DataError(f"{kind} must be one-dimensional text, not {names.dtype}")
    return [str(name) for name in names]
