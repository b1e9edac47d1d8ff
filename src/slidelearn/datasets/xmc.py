"""XMC text: a header `N D L`, then `label,label feature:value feature:value` for each example.

Ids count from 0. The line of an example without labels starts with a space; one without features
ends after its labels; an empty line is an example with neither. Blanks separate, one or more, and
may end a line; `\\r\\n` and a missing last newline are accepted. Features must be sorted by id;
labels need not be. Anything else is an error that names the line.
"""

import os
import re

import numpy as np

from slidelearn.datasets.dataset import Dataset, refuse_names
from slidelearn.datasets.line_parser import Entries, Grammar
from slidelearn.datasets.line_reader import Source, name_encoding, read_examples
from slidelearn.datasets.line_writer import write_examples
from slidelearn.datasets.matrices import MAX_IDS, check_widths, csr_from_arrays
from slidelearn.datasets.streams import open_input, open_output
from slidelearn.errors import DataError

__all__ = ["entries_to_dataset", "load", "save"]

_HEADER = re.compile(rb"[ \t]*(\d+)[ \t]+(\d+)[ \t]+(\d+)[ \t]*\r?\n?")
_HEADER_BYTES = 128
_MAX_EXAMPLES = 2**48


def load(
    path: str | os.PathLike[str], *, n_features: int | None = None, n_labels: int | None = None
) -> Dataset:
    """Read an XMC text file, plain or compressed (.gz, .zst).

    Parameters
    ----------
    path : str or path-like
        The file.
    n_features, n_labels : int, optional
        Widths that take the place of the header's.

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
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "tiny.txt"
    >>> _ = path.write_text("1 4 3\\n2,0 1:0.5\\n")
    >>> load(path).Y.toarray()
    array([[1, 0, 1]], dtype=uint8)
    """
    check_widths(n_features, n_labels)
    with open_input(path) as stream:
        examples, features, labels = _parse_header(stream.readline(_HEADER_BYTES), path)
        grammar = Grammar(examples, n_features or features, n_labels or labels, 0, False)
        entries = read_examples(Source(stream, path, 2), grammar)
    found = entries.feature_indptr.size - 1
    if found < examples:
        raise DataError(
            f"{path}:{found + 1}: the file ends after {found} examples; "
            f"the header promises {examples}"
        )
    return entries_to_dataset(entries, grammar.n_features, grammar.n_labels)


def save(dataset: Dataset, path: str | os.PathLike[str]) -> None:
    """Write an XMC text file, compressed where the name ends in .gz or .zst.

    Parameters
    ----------
    dataset : Dataset
        Canonical matrices, no names.
    path : str or path-like
        The file to create or replace, whole or not at all.

    Raises
    ------
    DataError
        The dataset has names, which the format cannot hold, or the file cannot be written.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from slidelearn.datasets.dataset import check_dataset
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "tiny.txt"
    >>> save(check_dataset(Dataset([[0.5]], [[1]])), path)
    >>> path.read_text()
    '1 1 1\\n0 0:0.5\\n'
    """
    refuse_names(dataset, path)
    with open_output(path) as stream:
        (examples, features), labels = dataset.X.shape, dataset.Y.shape[1]
        stream.write(f"{examples} {features} {labels}\n".encode())
        write_examples(stream, dataset, 0)


def entries_to_dataset(entries: Entries, n_features: int, n_labels: int) -> Dataset:
    """Wrap parsed arrays, without a copy, as the matrices of a dataset."""
    examples = entries.feature_indptr.size - 1
    ones = np.ones(entries.labels.size, np.uint8)
    X = (entries.values, entries.features, entries.feature_indptr)
    Y = (ones, entries.labels, entries.label_indptr)
    return Dataset(
        csr_from_arrays(*X, (examples, n_features), "X"),
        csr_from_arrays(*Y, (examples, n_labels), "Y"),
    )


def _parse_header(header: bytes, path: object) -> tuple[int, int, int]:
    if not header:
        raise DataError(f"{path}:1: the file is empty; expected a header `N D L`")
    if encoding := name_encoding(header):
        raise DataError(f"{path}:1: the file is {encoding}; expected plain ASCII text")
    match = _HEADER.fullmatch(header)
    if match is None:
        shown = header[:40].decode("ascii", "backslashreplace").strip()
        raise DataError(f"{path}:1: expected a header of three integers `N D L`, found {shown!r}")
    examples, features, labels = (int(number) for number in match.groups())
    if examples > _MAX_EXAMPLES or max(features, labels) > MAX_IDS:
        raise DataError(
            f"{path}:1: the header states {examples} examples, {features} features and {labels} "
            f"labels; possible are {_MAX_EXAMPLES}, {MAX_IDS} and {MAX_IDS}"
        )
    return examples, features, labels
