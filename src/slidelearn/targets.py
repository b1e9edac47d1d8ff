"""Targets: labels in the forms that users have them, turned into an indicator matrix and back."""

from collections.abc import Iterable, Sequence
from itertools import chain
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, issparse
from sklearn.utils import assert_all_finite
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from slidelearn.datasets import as_csr_labels
from slidelearn.errors import DataError

__all__ = ["Target", "name_classes", "read_target", "restore_classes"]

_KINDS = {"b": "bool", "i": "int", "u": "int", "f": "float", "U": "str", "O": "str"}


class Target(NamedTuple):
    """Labels of n examples, and what they are called.

    Attributes
    ----------
    Y : csr_matrix of uint8, shape (n, n_classes)
        1 where the example has the label.
    classes : array of shape (n_classes,)
        The user's name of every column.
    form : {"vector", "lists", "dense", "sparse"}
        How the user gave them; an example of a vector has one label.
    """

    Y: csr_matrix
    classes: NDArray[Any]
    form: str


def read_target(Y: Any, classes: NDArray[Any] | None = None) -> Target:
    """Read labels from a class vector, a list of label lists, or an indicator matrix.

    A list (or 1-d object array) of lists, tuples, sets or arrays is a list of label lists, whatever
    the inner ones hold; only a two-dimensional array or a sparse matrix is an indicator matrix.

    Parameters
    ----------
    Y : array, sparse matrix or list
        Labels are whole numbers, strings, floats or booleans, of one kind.
    classes : array, optional
        Names of known columns. Labels that are not among them get columns behind them.

    Raises
    ------
    DataError
        Y is malformed, mixes kinds of labels, or names a label twice for an example.

    Examples
    --------
    >>> target = read_target([["b", "a"], [], ["b"]])
    >>> target.Y.toarray().tolist(), target.classes.tolist()
    ([[1, 1], [0, 0], [0, 1]], ['a', 'b'])
    >>> read_target(["x", "y"], classes=np.array(["y"])).classes.tolist()
    ['y', 'x']
    """
    if issparse(Y):
        return _read_indicator(Y, classes, "sparse")
    if hasattr(Y, "to_numpy"):
        Y = Y.to_numpy()
    if _is_lists(Y):
        return _read_lists(Y, classes)
    array = np.asarray(Y)
    if array.ndim == 2 and array.shape[1] > 1:
        return _read_indicator(array, classes, "dense")
    values = column_or_1d(array, warn=True)
    assert_all_finite(values, input_name="Y")
    check_classification_targets(values)
    _check_kind(values, classes)
    return _encode(values, np.arange(len(values) + 1), classes, "vector")


def name_classes(classes: NDArray[Any]) -> tuple[list[str] | None, str]:
    """Names of classes for a model folder, None for 0 to n - 1, and the kind they had.

    Examples
    --------
    >>> name_classes(np.array([3, 7])), name_classes(np.arange(4))
    ((['3', '7'], 'int'), (None, 'int'))
    """
    kind = _KINDS[classes.dtype.kind]
    if kind == "int" and np.array_equal(classes, np.arange(len(classes))):
        return None, kind
    return [str(value) for value in classes.tolist()], kind


def restore_classes(names: list[str] | None, kind: str, size: int) -> NDArray[Any]:
    """The ``size`` classes that `name_classes` named.

    Examples
    --------
    >>> restore_classes(["3", "7"], "int", 2), restore_classes(None, "str", 3)
    (array([3, 7]), array([0, 1, 2]))
    """
    if names is None:
        return np.arange(size)
    if kind == "bool":
        return np.array([name == "True" for name in names])
    return np.array(names).astype({"int": np.int64, "float": np.float64}.get(kind, np.str_))


def _is_lists(Y: Any) -> bool:
    if not isinstance(Y, (list, tuple)) and not (isinstance(Y, np.ndarray) and Y.dtype == object):
        return False
    return len(Y) > 0 and all(isinstance(y, (list, tuple, set, frozenset, np.ndarray)) for y in Y)


def _read_indicator(Y: Any, classes: NDArray[Any] | None, form: str) -> Target:
    matrix = as_csr_labels(Y)
    width = matrix.shape[1]
    if classes is None or len(classes) < width:
        if classes is not None and not np.array_equal(classes, np.arange(len(classes))):
            raise DataError(
                f"Y has {width} columns for {len(classes)} named classes; name the new ones, "
                "as a list of label lists"
            )
        return Target(matrix, np.arange(width), form)
    if width < len(classes):
        raise DataError(f"Y has {width} columns, but there are {len(classes)} classes")
    return Target(matrix, classes, form)


def _read_lists(Y: Sequence[Iterable[Any]], classes: NDArray[Any] | None) -> Target:
    rows = [list(row) for row in Y]
    values = np.array(_of_one_kind(list(chain.from_iterable(rows))))
    if not len(values) and classes is not None:
        values = classes[:0]
    _check_kind(values, classes)
    starts = np.concatenate(([0], np.cumsum([len(row) for row in rows], dtype=np.int64)))
    target = _encode(values, starts, classes, "lists")
    if not target.Y.has_canonical_format:
        Y_sorted = target.Y.sorted_indices()
        owners = np.repeat(np.arange(len(rows)), np.diff(Y_sorted.indptr))
        same = (np.diff(Y_sorted.indices) == 0) & (np.diff(owners) == 0)
        if same.any():
            place = int(same.argmax())
            name = target.classes[Y_sorted.indices[place]]
            raise DataError(
                f"Y row {owners[place]} names label {name} twice; name it once, or pass "
                "indicators as an array"
            )
        target = target._replace(Y=csr_matrix(Y_sorted))
    return target


def _of_one_kind(values: list[Any]) -> list[Any]:
    """Labels of lists, unless NumPy would turn some of them into another kind."""
    for kind in (str, (bool, np.bool_), Integral, Real):
        if all(isinstance(value, kind) for value in values):
            return values
    kinds = " and ".join(sorted({type(value).__name__ for value in values}))
    raise DataError(f"Y holds labels of type {kinds}; use strings or whole numbers throughout")


def _check_kind(values: NDArray[Any], classes: NDArray[Any] | None) -> None:
    """Refuse labels that are of no kind, or of another kind than the known ones."""
    kind = _KINDS.get(values.dtype.kind)
    if kind is None:
        raise DataError(f"Y has dtype {values.dtype}; labels are strings or whole numbers")
    if classes is not None and len(values) and kind != _KINDS[classes.dtype.kind]:
        known = _KINDS[classes.dtype.kind]
        raise DataError(f"Y holds labels of type {kind}, but the classes are of type {known}")


def _encode(
    values: NDArray[Any], starts: NDArray[np.int64], classes: NDArray[Any] | None, form: str
) -> Target:
    """Turn the labels of examples, ``values[starts[i] : starts[i + 1]]``, into columns."""
    found = np.unique(values)
    if classes is None:
        classes = found
    else:
        classes = np.concatenate([classes, found[~np.isin(found, classes)]])
    order = np.argsort(classes, kind="stable")
    columns = order[np.searchsorted(classes[order], values)]
    ones = np.ones(len(columns), np.uint8)
    Y = csr_matrix((ones, columns, starts), shape=(len(starts) - 1, len(classes)))
    return Target(Y, classes, form)
