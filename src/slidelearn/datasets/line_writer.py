"""Writing text formats piece by piece, with the shortest digits that read back exactly."""

from typing import BinaryIO

import numpy as np
from numba import njit
from numpy.typing import NDArray

from slidelearn.csr import slice_rows
from slidelearn.datasets.dataset import Dataset, row_pieces

__all__ = ["write_examples"]

_PIECE = 2**19  # stored entries and rows formatted at once
_ID_BYTES = 11  # the longest int32 id and a mark behind it


def write_examples(stream: BinaryIO, dataset: Dataset, first_feature: int) -> None:
    """Write one line for each example.

    Parameters
    ----------
    stream : BinaryIO
        Where to write.
    dataset : Dataset
        Canonical matrices.
    first_feature : int
        The id that the first feature gets in the file: 0 or 1.

    Examples
    --------
    >>> import io
    >>> from slidelearn.datasets.dataset import check_dataset
    >>> stream = io.BytesIO()
    >>> write_examples(stream, check_dataset(Dataset([[0.5], [0.0]], [[1], [1]])), 0)
    >>> stream.getvalue()
    b'0 0:0.5\\n0\\n'
    """
    for rows in row_pieces(dataset, _PIECE):
        X, Y = slice_rows(dataset.X, *rows), slice_rows(dataset.Y, *rows)
        digits, ends = _format_values(X.data)
        size = digits.size + 2 * _ID_BYTES * X.nnz + _ID_BYTES * Y.nnz + X.shape[0]
        line_bytes = np.empty(size, np.uint8)
        features = X.indices.astype(np.int64) + first_feature
        used = _format_lines(X.indptr, features, digits, ends, Y.indptr, Y.indices, line_bytes)
        stream.write(line_bytes[:used].data)


def _format_values(values: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the digits of all values in one array, and where each value starts in it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    words = pc.cast(pa.array(values), pa.large_string())
    # A reader that goes through double, as Python does, misreads a few shortest forms
    # (7.038531e-26 is one); nine digits are always safe.
    wrong = pc.cast(words, pa.float64()).to_numpy().astype(np.float32) != values
    if wrong.any():
        exact = pa.array([f"{value:.9g}" for value in values[wrong]], pa.large_string())
        words = pc.replace_with_mask(words, pa.array(wrong), exact)
    if not len(words):
        return np.empty(0, np.uint8), np.zeros(1, np.int64)
    _, offsets, digits = words.buffers()
    ends = np.frombuffer(offsets, np.int64, len(words) + 1)
    return np.frombuffer(digits, np.uint8, int(ends[-1])), ends


@njit(cache=True, nogil=True)
def _format_lines(
    feature_indptr: NDArray,
    features: NDArray,
    digits: NDArray,
    ends: NDArray,
    label_indptr: NDArray,
    labels: NDArray,
    out: NDArray,
) -> int:
    """Format rows as lines; `digits[ends[i]:ends[i + 1]]` are the digits of value i.

    Returns the bytes written to `out`.
    """
    at = 0
    for row in range(feature_indptr.shape[0] - 1):
        for place in range(label_indptr[row], label_indptr[row + 1]):
            if place > label_indptr[row]:
                out[at] = 44  # comma
                at += 1
            at = _format_id(labels[place], out, at)
        for place in range(feature_indptr[row], feature_indptr[row + 1]):
            out[at] = 32  # space
            at = _format_id(features[place], out, at + 1)
            out[at] = 58  # colon
            at += 1
            for source in range(ends[place], ends[place + 1]):
                out[at] = digits[source]
                at += 1
        out[at] = 10  # newline
        at += 1
    return at


@njit(cache=True, nogil=True)
def _format_id(number: int, out: NDArray, at: int) -> int:
    """Write the decimal digits of a number at `out[at]`.

    Returns the byte behind them.
    """
    stop = at + 1
    rest = number // 10
    while rest > 0:
        stop += 1
        rest //= 10
    rest = number
    for place in range(stop - 1, at - 1, -1):
        out[place] = 48 + rest % 10
        rest //= 10
    return stop
