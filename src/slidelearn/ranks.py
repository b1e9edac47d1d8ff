"""Ranks: where the features of long lists are, by a bit for every feature instead of a search.

A frequent label has weights on thousands of features. A search among them takes a dozen steps for
every feature of an example; a bit says at once whether it is there, and how many bits are set
before it says where.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
from numba import config, njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

__all__ = [
    "NO_RANKS",
    "Ranks",
    "find_rank",
    "long_lists",
    "make_ranks",
    "most_long",
    "rank_bytes",
    "word_of",
    "words_for",
]

_BITS = 32  # features of a word, which says in its other half how many come before
_LONG = 64  # a list of more than one feature in so many has ranks: they are about as large as it is


class Ranks(NamedTuple):
    """A bit for every feature, of the m labels that have long lists.

    Attributes
    ----------
    rows : int32 array of shape (n_labels,), or (0,) if no label has any
        Row of each label; -1 where its list is short.
    words : uint64 array of shape (m, n_words)
        Feature f is there if bit f % 32 of word f // 32 is set; its upper half counts the features
        before those of the word.
    """

    rows: NDArray[np.int32]
    words: NDArray[np.uint64]


NO_RANKS = Ranks(np.empty(0, np.int32), np.empty((0, 0), np.uint64))


def make_ranks(indptr: NDArray[np.int64], features: NDArray[np.int32], n_features: int) -> Ranks:
    """Make the ranks of lists: label n has features[indptr[n] : indptr[n + 1]], ascending.

    Examples
    --------
    >>> ranks = make_ranks(np.array([0, 2, 2]), np.array([0, 65], np.int32), 100)
    >>> ranks.rows.tolist(), [[hex(word) for word in row] for row in ranks.words.tolist()]
    ([0, -1], [['0x1', '0x100000000', '0x100000002', '0x200000000']])
    """
    long = long_lists(indptr, n_features)
    if len(long) == 0:
        return NO_RANKS
    rows = np.full(len(indptr) - 1, -1, np.int32)
    rows[long] = np.arange(len(long))
    ranks = Ranks(rows, np.zeros((len(long), words_for(n_features)), np.uint64))
    _fill(indptr, features, long, ranks)
    return ranks


@njit(cache=True, nogil=True)
def _fill(
    indptr: NDArray[np.int64], features: NDArray[np.int32], long: NDArray[np.int64], ranks: Ranks
) -> None:
    """Set the bits of the labels ``long`` (m,), and count them."""
    for row in range(len(long)):
        words, count = ranks.words[row], 0
        for feature in features[indptr[long[row]] : indptr[long[row] + 1]]:
            words[word_of(feature)] |= np.uint64(1) << np.uint64(feature & 31)
        for w in range(len(words)):
            size = count_bits(words[w])
            words[w] |= np.uint64(count) << np.uint64(_BITS)
            count += size


def long_lists(indptr: NDArray[np.int64], n_features: int) -> NDArray[np.intp]:
    """Which of the lists that begin at indptr (n_labels + 1,) have ranks."""
    return np.flatnonzero(np.diff(indptr) * _LONG > n_features)


def words_for(n_features: int) -> int:
    """How many words have a bit for every feature."""
    return -(-n_features // _BITS)


def most_long(n_entries: int, n_features: int) -> int:
    """How many lists with so many entries in all have ranks, at most."""
    return n_entries * _LONG // max(n_features, 1)


def rank_bytes(n_long: int, n_labels: int, n_features: int) -> int:
    """Bytes of the ranks of so many long lists.

    Examples
    --------
    >>> ranks = make_ranks(np.array([0, 2, 2]), np.array([0, 65], np.int32), 100)
    >>> rank_bytes(1, 2, 100), sum(array.nbytes for array in ranks)
    (40, 40)
    """
    return (4 * n_labels + 8 * n_long * words_for(n_features)) if n_long else 0


@intrinsic
def _count_bits(typing_context: Any, word: Any) -> Any:
    """Count the bits of a uint64 that are set, in a kernel."""

    def generate(context: Any, builder: Any, _: Any, values: Any) -> Any:
        return builder.ctpop(values[0])

    return types.int64(types.uint64), generate


def _count(word: np.uint64) -> int:
    """Stand in for `_count_bits` where kernels are not compiled."""
    return int(word).bit_count()


count_bits: Callable[[np.uint64], int]  # as kernels see it
count_bits = _count if cast(Any, config).DISABLE_JIT else cast(Any, _count_bits)


@njit(cache=True, nogil=True, forceinline=True)
def word_of(feature: int) -> np.uint64:
    """Which word of a row has a feature's bit."""
    return np.uint64(feature) >> np.uint64(5)


@njit(cache=True, nogil=True, forceinline=True)
def find_rank(ranks: Ranks, row: int, feature: int) -> tuple[int, int]:
    """Say how many features of a list come before one, and whether that is there: 1 or 0."""
    bit = np.uint64(1) << np.uint64(feature & (_BITS - 1))
    word = ranks.words[row, word_of(feature)]
    rank = np.int64(word >> np.uint64(_BITS)) + count_bits(word & (bit - np.uint64(1)))
    return rank, np.int64((word & bit) != 0)  # type: ignore[return-value]
