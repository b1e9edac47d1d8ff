"""Ranking: the best neurons of the buckets that an example looks into, by rows kept beside them.

Rows of a bucket lie one behind the other, as bytes, so a lookup reads memory in order: a quarter of
what float32 rows would be, and none of it from all over the layer. Sketches spare most of that.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from slidelearn.heap import offer
from slidelearn.layers import Pairs
from slidelearn.prefetching import LINE, prefetch
from slidelearn.rows import BIAS_INPUT, Rows
from slidelearn.small_rows import SmallRows, dot_small
from slidelearn.tables.buckets import Tables
from slidelearn.tables.sketches import PLANES, Asked, Sketches, cut_query, most_product

__all__ = ["rank_buckets"]

_AHEAD = 4  # probes by which sketches are prefetched before they are read
_WORDS = 64  # of a bucket that are prefetched; the processor sees what comes then


def rank_buckets(
    tables: Tables,
    rows: SmallRows,
    probes: NDArray[np.int32],
    queries: Rows,
    limit: int,
    sketches: Sketches | None = None,
    asked: Asked | None = None,
) -> Pairs:
    """Find the neurons of the largest logits in the buckets that each query looks into.

    Parameters
    ----------
    tables : Tables
        One table of N neurons.
    rows : SmallRows
        The neurons in the order of the table, (N, d).
    probes : int32 array of shape (n, 1, P)
        Distinct buckets; -1 is skipped.
    queries : Rows
        Dense, n of width d.
    limit : int
        Most neurons per query; the smaller id stays among equals.
    sketches : Sketches, optional
        Of the neurons in the same order: rows are read of those only that may be among the best.
    asked : Asked, optional
        The queries as sketches take them.

    Returns
    -------
    Pairs
        The neurons of every query, ascending.

    Examples
    --------
    >>> from slidelearn.rows import dense_rows
    >>> from slidelearn.small_rows import small_rows
    >>> from slidelearn.tables import build_tables
    >>> tables = build_tables(np.array([[1], [0], [1]], np.int32), n_buckets=2)
    >>> weight = np.array([[1, 0], [9, 0], [2, 0]], np.float32)
    >>> rows = small_rows(weight, "int8", neurons=True, order=tables.neurons[0])
    >>> query = dense_rows(np.array([[1, BIAS_INPUT]], np.float32))
    >>> rank_buckets(tables, rows, np.array([[[1]]], np.int32), query, limit=1).neurons.tolist()
    [2]
    """
    n, room = len(probes), min(limit, len(rows.scales))
    indptr, neurons = np.zeros(n + 1, np.int64), np.empty(n * room, np.int32)
    if sketches is None or asked is None:
        _rank(tables, rows, probes, queries, room, indptr, neurons)
    else:
        _rank_sketched(tables, rows, sketches, asked, probes, queries, room, indptr, neurons)
    return Pairs(indptr, neurons[: indptr[-1]])


@njit(cache=True, nogil=True)
def _rank(
    tables: Tables,
    rows: SmallRows,
    probes: NDArray[np.int32],
    queries: Rows,
    room: int,
    indptr: NDArray[np.int64],
    neurons: NDArray[np.int32],
) -> None:
    """Fill the pairs: indptr (n + 1,) and neurons (n * room,)."""
    keys = np.empty(room, np.float32)
    for i in range(len(probes)):
        vector = queries.values[queries.indptr[i] : queries.indptr[i + 1]]
        best, kept = neurons[indptr[i] : indptr[i] + room], np.int64(0)
        for bucket in probes[i, 0]:
            if bucket < 0:
                continue
            for place in range(tables.offsets[0, bucket], tables.offsets[0, bucket + 1]):
                kept = _offer_row(tables, rows, place, vector, keys, best, kept)
        best[:kept].sort()
        indptr[i + 1] = indptr[i] + kept


@njit(cache=True, nogil=True)
def _rank_sketched(
    tables: Tables,
    rows: SmallRows,
    sketches: Sketches,
    asked: Asked,
    probes: NDArray[np.int32],
    queries: Rows,
    room: int,
    indptr: NDArray[np.int64],
    neurons: NDArray[np.int32],
) -> None:
    """Do the same, with rows of those only whose sketches say that they may be among the best."""
    keys, turned = np.empty(room, np.float32), np.empty(len(sketches.turn), np.float32)
    planes = np.empty((PLANES, sketches.words.shape[1] - 2), np.uint64)
    towards = np.empty(len(sketches.centroids), np.float32)
    offsets, words = tables.offsets[0], sketches.words.reshape(-1)
    for i in range(len(probes)):
        vector = queries.values[queries.indptr[i] : queries.indptr[i + 1]]
        best, kept, own = neurons[indptr[i] : indptr[i] + room], np.int64(0), probes[i, 0]
        cut = cut_query(asked.vectors[i], sketches.turn, turned, planes)
        towards[:] = np.inf
        for p in range(len(own)):
            if own[p] < 0:
                continue
            _prefetch_sketches(offsets, words, sketches.words.shape[1], own, p)
            centroid = own[p] // sketches.n_levels
            if towards[centroid] == np.inf:
                towards[centroid] = dot_small(sketches.centroids[centroid], asked.vectors[i])
            for place in range(offsets[own[p]], offsets[own[p] + 1]):
                most = most_product(sketches, place, planes, cut, towards[centroid])
                if kept < room or not most + asked.shifts[i] < keys[0]:
                    kept = _offer_row(tables, rows, place, vector, keys, best, kept)
        best[:kept].sort()
        indptr[i + 1] = indptr[i] + kept


@njit(cache=True, nogil=True, forceinline=True)
def _offer_row(
    tables: Tables,
    rows: SmallRows,
    place: int,
    vector: NDArray[np.float32],
    keys: NDArray[np.float32],
    best: NDArray[np.int32],
    kept: np.int64,
) -> np.int64:
    """Offer the neuron at a place to those kept, by its logit; returns how many there are then."""
    logit = rows.scales[place] * dot_small(rows.values[place], vector)
    logit += BIAS_INPUT * rows.bias[place]
    if kept < len(keys) or logit >= keys[0]:
        kept = offer(keys, best, kept, logit, np.int64(tables.neurons[0, place]))
    return kept


@njit(cache=True, nogil=True, forceinline=True)
def _prefetch_sketches(
    offsets: NDArray[np.int64],
    words: NDArray[np.int64],
    width: int,
    probes: NDArray[np.int32],
    p: int,
) -> None:
    """Begin to load what a later probe will read: where its bucket begins, then its sketches.

    These are ``width`` words each, one behind the other.
    """
    if p + 2 * _AHEAD < len(probes):
        prefetch(offsets, probes[p + 2 * _AHEAD])
    if p + _AHEAD < len(probes) and probes[p + _AHEAD] >= 0:
        start = width * offsets[probes[p + _AHEAD]]
        end = min(width * offsets[probes[p + _AHEAD] + 1], start + _WORDS)
        for word in range(start, end, LINE // 2):
            prefetch(words, word)
