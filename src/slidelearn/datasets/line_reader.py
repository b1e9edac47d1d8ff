"""Reading text formats block by block into growing columns, with an error for every bad line."""

from collections.abc import Iterator, Sequence
from io import BufferedReader
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from slidelearn.datasets import line_parser as parser
from slidelearn.datasets.column import Column, memory_of_column
from slidelearn.datasets.line_parser import Entries, Grammar
from slidelearn.errors import DataError

__all__ = ["BLOCK_BYTES", "Source", "name_encoding", "read_examples"]

BLOCK_BYTES = 2**20  # 16 MiB were read no faster

_SIGNATURES = {
    b"\xef\xbb\xbf": "UTF-8 with a byte-order mark",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"\x1f\x8b": "gzip data (its name should end in .gz)",
    b"\x28\xb5\x2f\xfd": "zstd data (its name should end in .zst)",
    b"PK\x03\x04": "a zip archive",
    b"PAR1": "Parquet data",
}


class Source(NamedTuple):
    """An open text file."""

    stream: BufferedReader
    path: object
    line: int  # the number of the next line, from 1


def name_encoding(head: bytes) -> str | None:
    """Name what the first bytes of a file show it to be, if it is not plain text."""
    return next((name for magic, name in _SIGNATURES.items() if head.startswith(magic)), None)


def read_examples(source: Source, grammar: Grammar) -> Entries:
    """Parse every line that is left in `source`.

    Parameters
    ----------
    source : Source
        Where to read. Memory is bounded by a block and by what the file holds, or, if that is much
        of the memory that is free, by what `Column` keeps there.
    grammar : Grammar
        What the lines may hold.

    Returns
    -------
    Entries
        Arrays of exactly the size that the examples need; rows are sorted.

    Raises
    ------
    DataError
        A line is malformed: `path:line: what is wrong`.

    Examples
    --------
    >>> import io
    >>> source = Source(io.BufferedReader(io.BytesIO(b"1,0 2:0.5")), "memory", 1)
    >>> read_examples(source, Grammar(1, 3, 2, 0, False)).labels
    array([0, 1], dtype=int32)
    """
    counts, limit = np.zeros(4, np.int64), memory_of_column()
    columns = [
        Column(dtype, limit) for dtype in (np.int64, np.int32, np.float32, np.int64, np.int32)
    ]
    for column, size in zip(columns, _sizes(counts), strict=True):
        column.reserve(size)
        column.array[:] = 0
    inexact = np.empty((256, 3), np.int64)
    line = source.line
    for text in _line_blocks(source.stream):
        newlines, inexact = _parse_block(
            text, grammar, columns, inexact, counts, (source.path, line)
        )
        line += newlines
    sizes = _sizes(counts)
    done = [column.finish(size) for column, size in zip(columns, sizes, strict=True)]
    return Entries._make([*done, inexact])


def _sizes(counts: NDArray[np.int64]) -> tuple[int, ...]:
    """Return what each of the columns must hold: those of `Entries`."""
    examples, features, labels, _ = (int(count) for count in counts)
    return examples + 1, features, features, examples + 1, labels


def _line_blocks(stream: BufferedReader) -> Iterator[NDArray[np.uint8]]:
    """Cut a stream into whole lines; a block is valid until the next one is asked for."""
    buffer = np.empty(BLOCK_BYTES, np.uint8)
    kept = 0
    while read := stream.readinto(buffer.data[kept:]):
        filled = kept + read
        stop = parser.last_newline(buffer[:filled]) + 1
        if stop:
            yield buffer[:stop]
        kept = filled - stop
        if kept == buffer.size:  # one line fills the buffer
            buffer = np.concatenate([buffer, np.empty_like(buffer)])
        elif stop:
            buffer[:kept] = buffer[stop:filled]
    if kept:
        yield np.append(buffer[:kept], np.uint8(ord("\n")))


def _parse_block(
    text: NDArray[np.uint8],
    grammar: Grammar,
    columns: Sequence[Column],
    inexact: NDArray[np.int64],
    counts: NDArray[np.int64],
    place: tuple[object, int],
) -> tuple[int, NDArray[np.int64]]:
    """Parse whole lines; return how many there were, and ``inexact``, which may have grown."""
    newlines, colons, commas = parser.count_marks(text)
    added = np.array([newlines, colons, newlines + commas, 0])
    for column, size in zip(columns, _sizes(counts + added), strict=True):
        column.reserve(size)
    entries = Entries._make([*(column.array for column in columns), inexact])
    before = counts.copy()
    fault = parser.parse_lines(text, grammar, entries, counts)
    if counts[parser.INEXACT] > inexact.shape[0]:
        inexact = np.empty((counts[parser.INEXACT], 3), np.int64)
        entries = entries._replace(inexact=inexact)
        counts[:] = before
        fault = parser.parse_lines(text, grammar, entries, counts)
    found = inexact[: counts[parser.INEXACT]]
    counts[parser.INEXACT] = 0
    _finish_inexact(text, found, entries.values, place)
    if fault[0] != parser.FINE:
        raise _line_error(text, fault[1], _describe(text, fault, grammar), place)
    return newlines, inexact


def _finish_inexact(
    text: NDArray[np.uint8],
    inexact: NDArray[np.int64],
    values: NDArray[np.float32],
    place: tuple[object, int],
) -> None:
    """Compute the few values that lie too near the middle of two float32 for quick arithmetic."""
    for entry, start, stop in inexact:
        value = float(text[start:stop].tobytes())
        if abs(value) >= parser.VALUE_LIMIT:
            pair = _token(text, start)
            raise _line_error(text, start, f"value {pair} overflows float32", place)
        values[entry] = value


def _line_error(
    text: NDArray[np.uint8], at: int, problem: str, place: tuple[object, int]
) -> DataError:
    path, line = place
    return DataError(f"{path}:{line + parser.count_marks(text[:at])[0]}: {problem}")


def _token(text: NDArray[np.uint8], at: int, until: bytes = b" \t\r\n#") -> str:
    """Return the word that starts at a byte, cut to a readable length."""
    word = bytearray()
    for byte in text[at : at + 40].tobytes():
        if byte in until:
            break
        word.append(byte)
    return word.decode("ascii", "backslashreplace").replace("\0", "\\x00")


def _describe(text: NDArray[np.uint8], fault: tuple[int, int, int], grammar: Grammar) -> str:
    code, at, detail = fault
    if code == parser.EXTRA_EXAMPLE:
        return (
            f"the header promises {grammar.max_examples} examples, but here is one more "
            "(an empty line is an example with no labels and no features)"
        )
    if code in (parser.BAD_LABEL, parser.LABEL_BOUND):
        return _describe_label(_token(text, at), _token(text, at, b" \t\r\n#,"), code, grammar)
    if code == parser.LABEL_TWICE:
        return f"label {detail} appears twice in this example"
    return _describe_feature(_token(text, at), code, detail, grammar)


def _describe_label(word: str, label: str, code: int, grammar: Grammar) -> str:
    if code == parser.LABEL_BOUND:
        return f"label {label} is out of bounds; labels must be less than {grammar.n_labels}"
    if problem := _describe_bytes(label):
        return problem
    if not label:
        return "a label is missing beside a comma"
    if ":" in label:
        return (
            f"found {word!r} where labels belong; "
            "the line of an example without labels starts with a space"
        )
    if label.startswith("-"):
        return f"label {label} is negative; labels count from 0"
    return f"label {label!r} is not a whole number"


def _describe_feature(pair: str, code: int, detail: int, grammar: Grammar) -> str:
    feature, colon, value = pair.partition(":")
    if code == parser.FEATURE_BOUND:
        return _describe_bound(feature, grammar)
    if code == parser.FEATURE_ORDER:
        if int(feature) == detail:
            return f"feature {detail} appears twice in this example"
        return f"feature {feature} comes after feature {detail}; sort features by id"
    if code == parser.OVERFLOW:
        return f"value {value} of feature {feature} overflows float32"
    if problem := _describe_bytes(pair):
        return problem
    if code == parser.BAD_VALUE:
        return _describe_value(feature, value)
    if feature == "qid":
        return f"{pair!r}: query ids are not supported; remove the qid fields"
    if colon and not feature:
        return f"a feature id is missing before {pair!r}"
    if feature.startswith("-"):
        return f"feature {feature} is negative; feature ids count from {grammar.first_feature}"
    if feature.isdigit():
        return f"feature {feature} has no value; expected feature:value"
    return f"expected feature:value, found {pair!r}"


def _describe_bound(feature: str, grammar: Grammar) -> str:
    if grammar.first_feature == 1 and int(feature) == 0:
        return "feature 0 in a file read as one-based; pass zero_based=True if ids count from 0"
    limit = grammar.n_features + grammar.first_feature
    return f"feature {feature} is out of bounds; feature ids must be less than {limit}"


def _describe_value(feature: str, value: str) -> str:
    if not value:
        return f"feature {feature} has no value; expected feature:value"
    if value.lower().lstrip("+-") in ("nan", "inf", "infinity"):
        return f"value {value} of feature {feature} is not finite"
    return f"value {value!r} of feature {feature} is not a decimal number"


def _describe_bytes(word: str) -> str | None:
    """Name a byte that no text of these formats holds; `word` shows such bytes as escapes."""
    if "\\x00" in word:
        return f"NUL byte in {word!r}; the file is binary or UTF-16, expected plain text"
    if "\\x" in word:
        return f"found {word!r}: not plain ASCII text; is the encoding wrong?"
    return None
