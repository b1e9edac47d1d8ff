"""svmlight (libsvm) text with any number of labels: `label,label feature:value # comment`.

Feature ids count from 1, as the format's own tools and datasets have them, unless `zero_based` is
true. scikit-learn writes zero-based files by default and guesses when it reads: ids count from 1
if none of them is 0. A guess moves every feature of a zero-based file that never uses feature 0,
so here the base is stated, and an id 0 in a one-based file is an error.

Labels are ids from 0; `+1` and `1.0` are read as 1. A line that starts with `#` is a comment; any
other line is an example, an empty one too. The widths are not in the file: they are one more than
the largest ids, unless given.
"""

import os

from slidelearn.datasets.dataset import Dataset, refuse_names
from slidelearn.datasets.line_parser import Grammar
from slidelearn.datasets.line_reader import Source, name_encoding, read_examples
from slidelearn.datasets.line_writer import write_examples
from slidelearn.datasets.matrices import MAX_IDS, check_widths
from slidelearn.datasets.streams import open_input, open_output
from slidelearn.datasets.xmc import entries_to_dataset
from slidelearn.errors import DataError

__all__ = ["load", "save"]

_NO_LIMIT = 2**62


def load(
    path: str | os.PathLike[str],
    *,
    n_features: int | None = None,
    n_labels: int | None = None,
    zero_based: bool = False,
) -> Dataset:
    """Read an svmlight file, plain or compressed (.gz, .zst).

    Parameters
    ----------
    path : str or path-like
        The file.
    n_features, n_labels : int, optional
        The widths; by default one more than the largest ids in the file.
    zero_based : bool
        Whether the first feature has id 0 rather than 1 in the file.

    Returns
    -------
    Dataset
        X (n, d) float32 and Y (n, l) uint8; stored zeros stay.

    Raises
    ------
    DataError
        The file is malformed: `path:line: what is wrong`.
    ConfigError
        A width is not a positive whole number.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "tiny.svm"
    >>> _ = path.write_text("2,0 1:0.5 # first\\n1 3:1\\n")
    >>> load(path).X.indices
    array([0, 2], dtype=int32)
    """
    check_widths(n_features, n_labels)
    first_feature = 0 if zero_based else 1
    grammar = Grammar(_NO_LIMIT, n_features or MAX_IDS, n_labels or MAX_IDS, first_feature, True)
    with open_input(path) as stream:
        head = stream.peek(4)[:4]
        if not head:
            raise DataError(f"{path}:1: the file is empty; expected examples or a comment")
        if encoding := name_encoding(head):
            raise DataError(f"{path}:1: the file is {encoding}; expected plain text")
        entries = read_examples(Source(stream, path, 1), grammar)
    return entries_to_dataset(
        entries,
        n_features or int(entries.features.max(initial=-1)) + 1,
        n_labels or int(entries.labels.max(initial=-1)) + 1,
    )


def save(dataset: Dataset, path: str | os.PathLike[str], *, zero_based: bool = False) -> None:
    """Write an svmlight file, compressed where the name ends in .gz or .zst.

    A comment in the first line states the widths and the base for readers of the file.

    Parameters
    ----------
    dataset : Dataset
        Canonical matrices, no names.
    path : str or path-like
        The file to create or replace, whole or not at all.
    zero_based : bool
        Whether the first feature gets id 0 rather than 1.

    Raises
    ------
    DataError
        The dataset has names, which the format cannot hold, or the file cannot be written.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from slidelearn.datasets.dataset import check_dataset
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "tiny.svm"
    >>> save(check_dataset(Dataset([[0.5]], [[1]])), path)
    >>> path.read_text()
    '# 1 examples, 1 features (ids from 1), 1 labels (ids from 0)\\n0 1:0.5\\n'
    """
    refuse_names(dataset, path)
    first_feature = 0 if zero_based else 1
    with open_output(path) as stream:
        (examples, features), labels = dataset.X.shape, dataset.Y.shape[1]
        stream.write(
            f"# {examples} examples, {features} features (ids from {first_feature}), "
            f"{labels} labels (ids from 0)\n".encode()
        )
        write_examples(stream, dataset, first_feature)
