"""Sketches: a bit for every number of a neuron, by which most of a bucket are passed over.

A neuron is its bucket's centroid and a rest. Of the rest, turned at random so that all its numbers
are alike, a sketch keeps the signs: 16 bytes of 128 numbers. They tell its inner product with a
query up to 0.75 |rest| |query| / sqrt(width) or so (RaBitQ; Gao and Long, SIGMOD 2024). Whoever
looks for the best then reads the bytes of those only that may be among them: of commits, 114 of the
18,900 that are filed where 99 % of the best 5 are, in 0.28 of the time.

Unlike there, a neuron's error has a bound of the same form as its estimate, so it needs no number
of its own, and the query is rounded to the nearest of 15 steps, not at random.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from slidelearn.hashing.centring import Centring
from slidelearn.hashing.centroids import Centroids
from slidelearn.prefetching import LINE, prefetch
from slidelearn.ranks import count_bits
from slidelearn.rows import BIAS_INPUT
from slidelearn.small_rows import dot_small
from slidelearn.tables.buckets import Tables

__all__ = [
    "BLOCK",
    "PLANES",
    "SKETCHED",
    "Block",
    "Sketches",
    "cut_query",
    "make_block",
    "make_sketches",
    "most_products",
    "n_words",
    "open_sketches",
    "turn_row",
]

# Numbers of a row from which on sketches pay: they are smaller than its bytes, and tell enough. Of
# 32 numbers, 1 to 2 % of the best that are kept were others, of 128 half a percent, the last ones.
SKETCHED = 64
_WORD = 64  # signs of a word
PLANES = 4  # bits of a number of a query
_MOST = 2 ** (PLANES - 1) - 1  # the largest such number
_MADE = 4096  # neurons that are sketched at a time
BLOCK = 512  # neurons whose sketches are looked at together, a power of two
_AHEAD = 64  # of these, those that are prefetched before the first of them is read
# By how many |query| an estimate is raised to what a product is at most, in units of what a sign
# counts: 1.7 standard deviations. With 0.8 instead of 1.0, 0.2 % of the best of ten million rows
# were passed over; with 1.0 none of those of a million, or of commits.
_SLACK = np.float32(1.0)


class Sketches(NamedTuple):
    """Sketches of N neurons in the order of a table.

    Attributes
    ----------
    words : int64 array of shape (N, n_words + 2)
        The signs, and four float32: the neuron's length, what a sign counts, what the query's
        constant adds, and 0. All that is read of a neuron lies together.
    numbers : float32 array of shape (N, 2 * n_words + 4)
        The same memory.
    turn : float32 array of shape (64 * n_words,)
        Signs that numbers are multiplied with before they are turned.
    """

    words: NDArray[np.int64]
    numbers: NDArray[np.float32]
    turn: NDArray[np.float32]


class Block(NamedTuple):
    """Room for neurons that are looked at together, and as much again for those that come next.

    Attributes
    ----------
    places : int64 array of shape (2 * BLOCK,)
        Where they are in the order of the table.
    products : float32 array of shape (2 * BLOCK,)
        Of their centroids with a query, and then what their own are at most.
    bits, facts : int64 and float32 arrays of shape (2, BLOCK) and (3, BLOCK)
        Columns of words and of numbers of sketches.
    """

    places: NDArray[np.int64]
    products: NDArray[np.float32]
    bits: NDArray[np.int64]
    facts: NDArray[np.float32]


@njit(cache=True, nogil=True)
def make_block() -> Block:
    """Make room for a block."""
    return Block(
        np.zeros(2 * BLOCK, np.int64),
        np.empty(2 * BLOCK, np.float32),
        np.empty((2, BLOCK), np.int64),
        np.empty((3, BLOCK), np.float32),
    )


def n_words(width: int) -> int:
    """Words of the signs of so many numbers; turning takes a power of two of them.

    Examples
    --------
    >>> n_words(1), n_words(128), n_words(129)
    (1, 2, 4)
    """
    return 1 << max(0, (max(width, 1) - 1).bit_length() - 6)


def make_sketches(
    weight: NDArray[np.float32], tables: Tables, family: Centroids, centring: Centring, seed: int
) -> Sketches:
    """Sketch the neurons (N, d + 1) of one table."""
    order, width = tables.neurons[0], weight.shape[1] - 1
    n_signs = _WORD * n_words(width)
    sketches = open_sketches(np.zeros((len(order), n_signs // _WORD + 2), np.int64), seed)
    for start in range(0, len(order), _MADE):
        part = slice(start, start + _MADE)
        own = order[part]
        vectors = centring.neurons(weight[own, :-1], BIAS_INPUT * weight[own, -1])
        lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        rest = np.zeros((len(own), n_signs), np.float32)
        np.divide(
            vectors[:, :-1], lengths[:, None], out=rest[:, :width], where=lengths[:, None] > 0
        )
        centroids = family.centroids[0][tables.codes[own, 0] // family.n_levels]
        rest[:, :width] -= centroids[:, :-1]
        _turn_all(rest, sketches.turn, sketches.words[part])
        sums, squares = np.abs(rest).sum(axis=1), np.einsum("ij,ij->i", rest, rest)
        numbers = sketches.numbers[part, -4:]
        numbers[:, 0] = lengths
        np.divide(lengths * squares, sums, out=numbers[:, 1], where=sums > 0)
        numbers[:, 2] = centring.scale * (vectors[:, -1] - lengths * centroids[:, -1])
    return sketches


def open_sketches(words: NDArray[np.int64], seed: int) -> Sketches:
    """Complete what a file holds of sketches, (N, n_words + 2)."""
    rng = np.random.default_rng((seed, 1))
    turn = rng.choice(np.array([-1, 1], np.float32), _WORD * (words.shape[1] - 2))
    return Sketches(words, words.view(np.float32), turn)


@njit(cache=True, nogil=True)
def _turn_all(
    rows: NDArray[np.float32], turn: NDArray[np.float32], words: NDArray[np.int64]
) -> None:
    """Turn rows (n, D) in place, and write their signs, words (n, D / 64 or more)."""
    for i in range(len(rows)):
        turn_row(rows[i], turn)
        for j in range(len(turn)):
            if rows[i, j] > 0:
                words[i, j >> 6] |= np.int64(1) << np.int64(j & 63)


@njit(cache=True, nogil=True)
def turn_row(row: NDArray[np.float32], turn: NDArray[np.float32]) -> None:
    """Turn a row (D,) in place: signs, then a Hadamard matrix, which leaves its length."""
    size, half = len(row), 1
    scale = np.float32(1 / np.sqrt(size))
    for j in range(size):
        row[j] *= turn[j] * scale
    while half < size:
        for start in range(0, size, 2 * half):
            left, right = row[start : start + half], row[start + half : start + 2 * half]
            for j in range(half):
                a, b = left[j], right[j]
                left[j], right[j] = a + b, a - b
        half *= 2


@njit(cache=True, nogil=True, forceinline=True)
def cut_query(
    vector: NDArray[np.float32],
    turn: NDArray[np.float32],
    row: NDArray[np.float32],
    planes: NDArray[np.uint64],
) -> tuple[np.float32, np.float32]:
    """Round a query (d + 1,) to whole numbers, and write their bits, planes (4, n_words).

    ``row`` (D,) is room for it. Returns what is multiplied with a neuron's sum of them, and added.
    """
    row[:], planes[:] = 0, 0
    row[: len(vector) - 1] = vector[:-1]
    turn_row(row, turn)
    largest, total = np.float32(0), np.int64(0)
    for j in range(len(row)):
        largest = max(largest, abs(row[j]))
    step = largest / np.float32(_MOST) if largest > 0 else np.float32(1)
    for j in range(len(row)):
        number = np.int64(np.rint(row[j] / step))
        total += number
        for b in range(PLANES):  # two's complement: the last one counts -8
            planes[b, j >> 6] |= np.uint64((number >> b) & 1) << np.uint64(j & 63)
    slack = _SLACK * np.sqrt(dot_small(row, row))
    return np.float32(2) * step, slack - step * np.float32(total)


@njit(cache=True, nogil=True, forceinline=True)
def _count(
    word: np.int64, ones: np.uint64, twos: np.uint64, fours: np.uint64, eights: np.uint64
) -> int:
    """Sum what a query has where a word's bits are set, given its four planes for that word."""
    own = np.uint64(word)
    total = count_bits(own & ones) + 2 * count_bits(own & twos)
    return total + 4 * count_bits(own & fours) - 8 * count_bits(own & eights)


@njit(cache=True, nogil=True)
def most_products(
    sketches: Sketches,
    block: Block,
    first: np.int64,
    n: np.int64,
    planes: NDArray[np.uint64],
    cut: tuple[np.float32, np.float32],
) -> None:
    """Say what the products of n neurons with a query are at most, or nearly always.

    They are those of a block from ``first`` on, whose products are those of their centroids before.
    """
    if planes.shape[1] == 2:
        _most_of_two(sketches, block, np.uint64(first), np.uint64(n), planes, cut)
    else:
        _most_of_words(sketches, block, np.uint64(first), np.uint64(n), planes, cut)


@njit(cache=True, nogil=True)
def _most_of_two(
    sketches: Sketches,
    block: Block,
    first: np.uint64,
    n: np.uint64,
    planes: NDArray[np.uint64],
    cut: tuple[np.float32, np.float32],
) -> None:
    """Do that for sketches of two words, in columns: eight neurons are added up at a time.

    It takes 2.1 ns for a neuron, and 2.8 without columns.
    """
    words, numbers, bits, facts = sketches.words, sketches.numbers, block.bits, block.facts
    flat, places, products = words.reshape(-1), block.places, block.products
    zero, one, two, width = np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(4)
    last, at = np.uint64(len(places) - 1), np.uint64(4)
    for j in range(n):
        prefetch(flat, width * np.uint64(places[(first + j + np.uint64(_AHEAD)) & last]))
        place = np.uint64(places[first + j])
        bits[zero, j], bits[one, j] = words[place, zero], words[place, one]
        facts[zero, j], facts[one, j] = numbers[place, at], numbers[place, at + one]
        facts[two, j] = numbers[place, at + two]
    a0, a1, a2, a3 = planes[0, 0], planes[1, 0], planes[2, 0], planes[3, 0]
    b0, b1, b2, b3 = planes[0, 1], planes[1, 1], planes[2, 1], planes[3, 1]
    for j in range(n):
        total = _count(bits[zero, j], a0, a1, a2, a3) + _count(bits[one, j], b0, b1, b2, b3)
        most = facts[one, j] * (cut[0] * np.float32(total) + cut[1])
        products[first + j] = facts[zero, j] * products[first + j] + facts[two, j] + most


@njit(cache=True, nogil=True)
def _most_of_words(
    sketches: Sketches,
    block: Block,
    first: np.uint64,
    n: np.uint64,
    planes: NDArray[np.uint64],
    cut: tuple[np.float32, np.float32],
) -> None:
    """Do that for sketches of any number of words."""
    words, numbers, places = sketches.words, sketches.numbers, block.places
    products, flat, n_words = block.products, words.reshape(-1), np.uint64(planes.shape[1])
    width, zero, one, two = np.uint64(words.shape[1]), np.uint64(0), np.uint64(1), np.uint64(2)
    three, last, at = np.uint64(3), np.uint64(len(places) - 1), n_words + n_words
    for p in range(first, first + n):
        later = width * np.uint64(places[(p + np.uint64(_AHEAD)) & last])
        for word in range(later, later + width, np.uint64(LINE // 2)):
            prefetch(flat, word)
        place, total = np.uint64(places[p]), np.int64(0)
        for w in range(n_words):
            total += _count(
                words[place, w], planes[zero, w], planes[one, w], planes[two, w], planes[three, w]
            )
        most = numbers[place, at + one] * (cut[0] * np.float32(total) + cut[1])
        products[p] = numbers[place, at] * products[p] + numbers[place, at + two] + most
