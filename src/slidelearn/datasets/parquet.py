"""Parquet tables: one row an example, list columns `labels`, `indices` and `values`.

`labels` holds ids (any integer type) or names (strings). The widths and names are JSON under the
key `slidelearn` of the table's metadata; tables of other makers do without it, and the widths are
then one more than the largest ids.
"""

import json
import os
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from slidelearn.csr import slice_rows
from slidelearn.datasets.column import Column, memory_of_column
from slidelearn.datasets.dataset import Dataset, check_dataset, row_pieces
from slidelearn.datasets.matrices import check_widths, csr_from_arrays
from slidelearn.datasets.streams import file_errors
from slidelearn.errors import DataError
from slidelearn.files import atomic_write

__all__ = ["load", "save"]

_KEY = b"slidelearn"
_PIECE = 2**20  # stored entries and rows of one row group
_BATCH_ROWS = 2**15


def load(
    path: str | os.PathLike[str], *, n_features: int | None = None, n_labels: int | None = None
) -> Dataset:
    """Read a dataset from a Parquet table.

    Parameters
    ----------
    path : str or path-like
        The file.
    n_features, n_labels : int, optional
        Widths that take the place of the table's.

    Returns
    -------
    Dataset
        X (n, d) float32 and Y (n, l) uint8; stored zeros stay.

    Raises
    ------
    DataError
        The file is truncated or corrupt, lacks a column, or a row is malformed; rows count from 0.
    ConfigError
        A width is not a positive whole number.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "tiny.parquet"
    >>> columns = {"labels": [["cat"], []], "indices": [[0, 2], []], "values": [[0.5, 1.0], []]}
    >>> pq.write_table(pa.table(columns), path)
    >>> load(path).label_names
    ['cat']
    """
    check_widths(n_features, n_labels)
    try:
        with file_errors(path), pq.ParquetFile(path) as file:
            return _read_table(file, n_features, n_labels)
    except (pa.ArrowException, UnicodeDecodeError) as error:  # the latter of a column's name
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: not Parquet, truncated or corrupt ({reason})") from None
    except DataError as error:
        if str(error).startswith(f"{path}:"):
            raise
        raise DataError(f"{path}: {error}") from None


def save(dataset: Dataset, path: str | os.PathLike[str]) -> None:
    """Write a dataset as a Parquet table.

    Parameters
    ----------
    dataset : Dataset
        Canonical matrices.
    path : str or path-like
        The file to create or replace, whole or not at all.

    Raises
    ------
    DataError
        The file cannot be written.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "tiny.parquet"
    >>> save(check_dataset(Dataset([[0.5]], [[1]])), path)
    >>> load(path).X.shape
    (1, 1)
    """
    facts = {
        "n_features": dataset.X.shape[1],
        "n_labels": dataset.Y.shape[1],
        "label_names": dataset.label_names,
        "feature_names": dataset.feature_names,
    }
    ids, values = pa.list_(pa.int32()), pa.list_(pa.float32())
    schema = pa.schema(
        [("labels", ids), ("indices", ids), ("values", values)],
        metadata={_KEY: json.dumps(facts).encode()},
    )
    with (
        file_errors(path),
        atomic_write(path) as stream,
        pq.ParquetWriter(stream, schema, compression="zstd") as writer,
    ):
        for rows in row_pieces(dataset, _PIECE):
            X, Y = slice_rows(dataset.X, *rows), slice_rows(dataset.Y, *rows)
            columns = ((Y.indptr, Y.indices), (X.indptr, X.indices), (X.indptr, X.data))
            lists = [pa.ListArray.from_arrays(pa.array(a), pa.array(b)) for a, b in columns]
            writer.write_batch(pa.record_batch(lists, schema=schema))


class _ListColumn:
    """The rows of one list column, joined into CSR arrays as batches come in."""

    def __init__(self, name: str, dtype: Any, limit: int | None) -> None:
        self.name = name
        self._indptr, self._items = Column(np.int64, limit), Column(dtype, limit)
        self._rows, self._used = 0, 0
        self._indptr.reserve(1)
        self._indptr.array[0] = 0

    def append(self, lists: Any, items: NDArray) -> None:
        """Add a batch of rows whose items, flattened, are `items`."""
        used, rows = self._used + items.size, self._rows + len(lists)
        self._indptr.reserve(rows + 1)
        self._items.reserve(used)
        offsets = lists.offsets.to_numpy()
        self._indptr.array[self._rows + 1 : rows + 1] = offsets[1:] - offsets[0] + self._used
        self._items.array[self._used : used] = items
        self._rows, self._used = rows, used

    def finish(self) -> tuple[NDArray, NDArray]:
        """Return the items and indptr at their exact size."""
        return self._items.finish(self._used), self._indptr.finish(self._rows + 1)


class _LabelNames:
    """Ids of label names: as the metadata has them, or in order of appearance."""

    def __init__(self, stated: list[str] | None) -> None:
        self._may_grow = stated is None
        self.ids = {name: label for label, name in enumerate(stated or [])}
        if stated is not None and len(self.ids) < len(stated):
            raise DataError("label_names in the metadata repeats a name, so labels are ambiguous")

    def encode(self, flat: Any, lists: Any, first_row: int) -> NDArray[np.int32]:
        """Return the id of each name in `flat`, the flattened `lists`."""
        encoded = flat.dictionary_encode()
        codes = encoded.indices.to_numpy()
        table = np.empty(len(encoded.dictionary), np.int32)
        for code, name in enumerate(encoded.dictionary.to_pylist()):
            if self._may_grow:
                self.ids.setdefault(name, len(self.ids))
            elif name not in self.ids:
                row = _row_of_item(lists, int(np.argmax(codes == code)), first_row)
                raise DataError(f"row {row}: label {name!r} is not in the metadata's label_names")
            table[code] = self.ids[name]
        ids: NDArray[np.int32] = table[codes]
        return ids


def _read_table(file: Any, n_features: int | None, n_labels: int | None) -> Dataset:
    schema = file.schema_arrow
    facts = _read_facts(schema.metadata or {})
    kinds = _check_columns(schema)
    names = _LabelNames(facts["label_names"]) if _is_text(kinds["labels"]) else None
    limit = memory_of_column()
    columns = {
        name: _ListColumn(name, np.int32 if _is_text(kind) else kind.to_pandas_dtype(), limit)
        for name, kind in kinds.items()
    }
    row = 0
    for batch in file.iter_batches(_BATCH_ROWS, columns=list(columns)):
        for name, column in columns.items():
            lists = batch.column(name)
            flat = _flatten(lists, name, row)
            if name == "labels" and names is not None:
                items = names.encode(flat, lists, row)
            else:
                items = flat.to_numpy(zero_copy_only=False)
            column.append(lists, items)
        row += batch.num_rows
    if names is not None:
        facts["label_names"] = list(names.ids)
        facts["n_labels"] = len(names.ids)
    facts["n_features"] = n_features or facts["n_features"]
    facts["n_labels"] = n_labels or facts["n_labels"]
    return _join(columns, facts)


def _join(columns: dict[str, _ListColumn], facts: dict[str, Any]) -> Dataset:
    labels, label_indptr = columns["labels"].finish()
    indices, indptr = columns["indices"].finish()
    values, value_indptr = columns["values"].finish()
    uneven = indptr != value_indptr
    if uneven.any():
        row = int(uneven.argmax()) - 1
        raise DataError(f"row {row}: indices and values differ in length; pair them up")
    ones = np.ones(labels.size, np.uint8)
    n_features, n_labels = _width(facts["n_features"], indices), _width(facts["n_labels"], labels)
    rows = indptr.size - 1
    X = csr_from_arrays(values, indices, indptr, (rows, n_features), "X")
    Y = csr_from_arrays(ones, labels, label_indptr, (rows, n_labels), "Y")
    return check_dataset(Dataset(X, Y, facts["label_names"], facts["feature_names"]))


def _width(stated: int | None, ids: NDArray) -> int:
    if stated is not None:
        return stated
    return int(ids.max()) + 1 if ids.size else 0


def _read_facts(metadata: dict[bytes, bytes]) -> dict[str, Any]:
    """Return the widths and names that the metadata states; None for each that it does not."""
    kinds = {"n_features": int, "n_labels": int, "label_names": list, "feature_names": list}
    try:
        stated = json.loads(metadata.get(_KEY, b"{}"))
    except ValueError:
        raise DataError("the metadata under `slidelearn` is not JSON") from None
    if not isinstance(stated, dict):
        raise DataError("the metadata under `slidelearn` is not a JSON object")
    for name, kind in kinds.items():
        value = stated.get(name)
        if value is not None and type(value) is not kind:
            raise DataError(f"{name} in the metadata is {str(value)[:40]!r}")
    return {name: stated.get(name) for name in kinds}


def _check_columns(schema: Any) -> dict[str, Any]:
    """Return the item types of the three list columns."""
    is_integer, is_floating = pa.types.is_integer, pa.types.is_floating
    needed = {
        "labels": ("integers or strings", lambda kind: is_integer(kind) or _is_text(kind)),
        "indices": ("integers", is_integer),
        "values": ("numbers", lambda kind: is_integer(kind) or is_floating(kind)),
    }
    kinds = {}
    for name, (items, fits) in needed.items():
        if schema.names.count(name) != 1:
            raise DataError(f"expected one column {name!r}; found {schema.names}")
        kind = schema.field(name).type
        is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
        if not is_list or not fits(kind.value_type):
            raise DataError(f"column {name!r} has type {kind}; expected lists of {items}")
        kinds[name] = kind.value_type
    return kinds


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _flatten(lists: Any, name: str, first_row: int) -> Any:
    """Return the items of all rows, none of which may be null."""
    if lists.null_count:
        row = first_row + int(np.argmax(lists.is_null().to_numpy(zero_copy_only=False)))
        raise DataError(f"row {row}: {name} is null; write an empty list")
    flat = lists.flatten()
    if flat.null_count:
        item = int(np.argmax(flat.is_null().to_numpy(zero_copy_only=False)))
        raise DataError(f"row {_row_of_item(lists, item, first_row)}: {name} holds a null")
    return flat


def _row_of_item(lists: Any, item: int, first_row: int) -> int:
    offsets = lists.offsets.to_numpy()
    return first_row + int(np.searchsorted(offsets - offsets[0], item, side="right")) - 1
