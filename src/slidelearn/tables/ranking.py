"""Ranking: the best neurons of the buckets that may hold them, by rows kept beside the tables.

Rows of a bucket lie one behind the other, as bytes, so a lookup reads memory in order: a quarter of
what float32 rows would be, and none of it from all over the layer. Sketches spare most of that.
The first buckets say how good a neuron must be. Of all others, those are read whose neurons may be
so good, and these are few for most queries: of ten million planted rows, 3,500 are looked at on
average for 99 % of the best 5, half of the time fewer than 1,800, where as many buckets for every
query are 327,000 rows.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from slidelearn.heap import offer
from slidelearn.layers import Pairs
from slidelearn.prefetching import LINE, prefetch
from slidelearn.rows import BIAS_INPUT, Rows
from slidelearn.selecting import FULL, keep_largest
from slidelearn.small_rows import SmallRows, multiply_some
from slidelearn.tables.buckets import Tables
from slidelearn.tables.outlook import Outline, Outlook
from slidelearn.tables.sketches import (
    BLOCK,
    PLANES,
    Block,
    Sketches,
    cut_query,
    make_block,
    most_products,
)

__all__ = ["rank_buckets", "rank_probed"]

_FIRST = 2  # directions that are looked at first, for every neuron that is kept
_SPANS = 128  # of a table, that are taken before they are read
_AT_ONCE = 32  # rows that are prefetched before the first of them is read
_LINES = 8  # of each that are prefetched; the processor sees what comes then
# Parts of the reach: the nearest buckets, which are read first, say how much others must promise.
_PARTS = (np.float32(0), np.float32(0.5), np.float32(1))


class _Query(NamedTuple):
    """A query: its values, its products with centroids, and its sketch, see `cut_query`."""

    vector: NDArray[np.float32]
    towards: NDArray[np.float32]
    norm: np.float32
    shift: np.float32
    planes: NDArray[np.uint64]
    cut: tuple[np.float32, np.float32]


def rank_buckets(
    tables: Tables,
    rows: SmallRows,
    sketches: Sketches | None,
    queries: Rows,
    outlook: Outlook,
    reach: float,
    limit: int,
) -> Pairs:
    """Find the neurons of the largest logits for each query.

    Parameters
    ----------
    tables : Tables
        One table of N neurons, of the buckets of centroids.
    rows : SmallRows
        The neurons in the order of the table, (N, d).
    sketches : Sketches or None
        The same; rows are then read of those only that may be among the best.
    queries : Rows
        Dense, n of width d.
    outlook : Outlook
        What buckets promise to the queries.
    reach : float
        Standard deviations by which some neuron of a bucket may be better than its centroid. All
        buckets are read where one may be better than the worst that is kept.
    limit : int
        Most neurons per query; the smaller id stays among equals.

    Returns
    -------
    Pairs
        The neurons of every query, ascending.
    """
    n, room = queries.n, min(limit, len(rows.scales))
    indptr, neurons = np.zeros(n + 1, np.int64), np.empty(n * room, np.int32)
    first = min(_FIRST * room, len(outlook.outline.starts))
    _rank(tables, rows, sketches, queries, outlook, first, np.float32(reach), room, indptr, neurons)
    return Pairs(indptr, neurons[: indptr[-1]])


def rank_probed(
    tables: Tables, rows: SmallRows, probes: NDArray[np.int32], queries: Rows, limit: int
) -> Pairs:
    """Do the same in buckets of other families, which promise nothing: in those that are probed.

    Parameters
    ----------
    tables, rows, queries, limit
        See `rank_buckets`.
    probes : int32 array of shape (n, 1, P)
        Distinct buckets; -1 is skipped.

    Examples
    --------
    >>> from slidelearn.rows import dense_rows
    >>> from slidelearn.small_rows import small_rows
    >>> from slidelearn.tables import build_tables
    >>> tables = build_tables(np.array([[1], [0], [1]], np.int32), n_buckets=2)
    >>> weight = np.array([[1, 0], [9, 0], [2, 0]], np.float32)
    >>> rows = small_rows(weight, "int8", neurons=True, order=tables.neurons[0])
    >>> query = dense_rows(np.array([[1, BIAS_INPUT]], np.float32))
    >>> rank_probed(tables, rows, np.array([[[1]]], np.int32), query, limit=1).neurons.tolist()
    [2]
    """
    n, room = queries.n, min(limit, len(rows.scales))
    indptr, neurons = np.zeros(n + 1, np.int64), np.empty(n * room, np.int32)
    _rank_probed(tables, rows, probes, queries, room, indptr, neurons)
    return Pairs(indptr, neurons[: indptr[-1]])


@njit(cache=True, nogil=True)
def _rank_probed(
    tables: Tables,
    rows: SmallRows,
    probes: NDArray[np.int32],
    queries: Rows,
    room: int,
    indptr: NDArray[np.int64],
    neurons: NDArray[np.int32],
) -> None:
    """Fill the pairs: indptr (n + 1,) and neurons (n * room,)."""
    keys, spans = np.empty(room, np.float32), np.empty((probes.shape[2], 3), np.int64)
    nothing, planes = np.empty(0, np.float32), np.empty((0, 0), np.uint64)
    zero, block = np.float32(0), make_block()
    for i in range(len(probes)):
        vector = queries.values[queries.indptr[i] : queries.indptr[i + 1]]
        query = _Query(vector, nothing, zero, zero, planes, (zero, zero))
        n = 0
        for bucket in probes[i, 0]:
            if bucket >= 0:
                start, end = tables.offsets[0, bucket], tables.offsets[0, bucket + 1]
                spans[n, 0], spans[n, 1], spans[n, 2] = start, end, 0
                n += 1
        best = neurons[indptr[i] : indptr[i] + room]
        kept = _read(tables, rows, None, spans[:n], query, block, keys, best, np.int64(0))
        best[:kept].sort()
        indptr[i + 1] = indptr[i] + kept


@njit(cache=True, nogil=True)
def _rank(
    tables: Tables,
    rows: SmallRows,
    sketches: Sketches | None,
    queries: Rows,
    outlook: Outlook,
    first: int,
    reach: np.float32,
    room: int,
    indptr: NDArray[np.int64],
    neurons: NDArray[np.int32],
) -> None:
    """Fill the pairs: indptr (n + 1,) and neurons (n * room,)."""
    keys, outline, block = np.empty(room, np.float32), outlook.outline, make_block()
    hopes, spans = np.empty(FULL * first, np.float32), np.empty((_SPANS, 3), np.int64)
    unread = np.empty_like(outline.starts)
    promising = np.empty(max(len(hopes), len(unread)), np.int32)
    if sketches is None:
        turned, planes = np.empty(0, np.float32), np.empty((0, 0), np.uint64)
    else:
        turned = np.empty(len(sketches.turn), np.float32)
        planes = np.empty((PLANES, sketches.words.shape[1] - 2), np.uint64)
    for i in range(len(indptr) - 1):
        cut = np.float32(0), np.float32(0)
        if sketches is not None:
            cut = cut_query(outlook.vectors[i], sketches.turn, turned, planes)
        vector = queries.values[queries.indptr[i] : queries.indptr[i + 1]]
        query = _Query(
            vector, outlook.products[i], outlook.norms[i], outlook.shifts[i], planes, cut
        )
        best, kept = neurons[indptr[i] : indptr[i] + room], np.int64(0)
        keys[:] = -np.inf
        unread[:] = outline.starts
        for part in range(len(_PARTS)):
            spread, taken = _PARTS[part] * reach * query.norm, np.int64(0)
            if part == 0:
                m, n_levels = _nearest(outline, query, hopes, promising), 1
            else:
                m = _promising(outline, query, spread, _least(keys, kept), promising)
                n_levels = len(outline.lengths)
            while taken < m:
                least = _least(keys, kept)
                n, taken = _take(
                    tables.offsets, outline, query, spread, least, n_levels,
                    promising[:m], taken, unread, spans,
                )  # fmt: skip
                kept = _read(tables, rows, sketches, spans[:n], query, block, keys, best, kept)
        best[:kept].sort()
        indptr[i + 1] = indptr[i] + kept


@njit(cache=True, nogil=True)
def _nearest(
    outline: Outline, query: _Query, hopes: NDArray[np.float32], nearest: NDArray[np.int32]
) -> np.int64:
    """Name the directions that promise most, a quarter as many as hopes; returns how many.

    They hope for what a neuron one standard deviation better than its centroid has; ``hopes`` is
    room for that, and ``nearest`` for as many or more.
    """
    n, least, towards, radii = np.uint64(0), np.float32(-np.inf), query.towards, outline.radii
    longest, full = outline.longest, np.uint64(len(hopes))
    for c in range(len(longest)):
        hope = (towards[c] + query.norm * radii[c]) * longest[c]
        hopes[n], nearest[n] = hope, c
        n += np.uint64((hope >= least) & (longest[c] > 0))
        if n == full:
            n = np.uint64(keep_largest(hopes, nearest, len(hopes), len(hopes) // FULL))
            least = hopes[:n].min()
    return np.int64(keep_largest(hopes, nearest, np.int64(n), len(hopes) // FULL))


@njit(cache=True, nogil=True, forceinline=True)
def _least(keys: NDArray[np.float32], kept: np.int64) -> np.float32:
    """What others must promise: as much as the worst that is kept, once so many are."""
    return keys[0] if kept == len(keys) else np.float32(-np.inf)


@njit(cache=True, nogil=True)
def _promising(
    outline: Outline,
    query: _Query,
    spread: np.float32,
    least: np.float32,
    promising: NDArray[np.int32],
) -> np.int64:
    """Say which directions may hold a neuron that good; ``spread`` is what a radius promises.

    Returns how many there are; ``promising`` is room for all.
    """
    towards, radii, longest, shift = query.towards, outline.radii, outline.longest, query.shift
    shortest, n = outline.lengths[-1], np.uint64(0)
    for c in range(np.uint64(len(radii))):
        most = towards[c] + spread * radii[c]
        promising[n] = c
        n += np.uint64(_promise(most, longest[c], shortest) + shift >= least)
    return np.int64(n)


@njit(cache=True, nogil=True)
def _take(
    offsets: NDArray[np.int64],
    outline: Outline,
    query: _Query,
    spread: np.float32,
    least: np.float32,
    n_levels: int,
    promising: NDArray[np.int32],
    taken: np.int64,
    unread: NDArray[np.int32],
    spans: NDArray[np.int64],
) -> tuple[int, np.int64]:
    """Note where the neurons of promising directions (m,) lie that may be that good.

    They are of the next levels that are not read, from ``unread`` (C,) on and ``n_levels`` at most;
    ``taken`` directions were looked at before. Returns how many ``spans`` (n, 3) there are, no more
    than have room, and how many directions are taken then.
    """
    towards, radii, shift, n = query.towards, outline.radii, query.shift, 0
    lengths, shortest, width = outline.lengths, outline.lengths[-1], len(outline.lengths)
    while taken < len(promising) and n < len(spans):
        c = np.int64(promising[taken])
        begun, level, most = np.int64(unread[c]), np.int64(0), towards[c] + spread * radii[c]
        for s in range(width):
            level += np.int64(_promise(most, lengths[s], shortest) + shift >= least)
        level = min(level, begun + n_levels)
        if level > begun:
            spans[n, 0], spans[n, 2] = offsets[0, c * width + begun], c
            spans[n, 1] = offsets[0, c * width + level]
            unread[c] = level
            n += 1
        taken += 1
    return n, taken


@njit(cache=True, nogil=True, forceinline=True)
def _promise(most: np.float32, length: np.float32, shortest: np.float32) -> np.float32:
    """What neurons of a length have at most; of a negative product, the shortest have most."""
    return max(most * length, most * shortest)


@njit(cache=True, nogil=True, forceinline=True)
def _read(
    tables: Tables,
    rows: SmallRows,
    sketches: Sketches | None,
    spans: NDArray[np.int64],
    query: _Query,
    block: Block,
    keys: NDArray[np.float32],
    best: NDArray[np.int32],
    kept: np.int64,
) -> np.int64:
    """Offer the neurons of spans (n, 3): from, to, direction; returns how many are kept then.

    Whole arrays by index, many rows at once: for each row alone, Numba counted references to parts
    of arrays by 40 locked instructions, which took half of a query.
    """
    held, logits = np.empty(_AT_ONCE, np.int64), np.empty(_AT_ONCE, np.float32)
    values, vector, ids = rows.values.reshape(-1), query.vector, tables.neurons[0]
    scales, biases, width = rows.scales, rows.bias, rows.values.shape[1]
    places, mosts, least = block.places, block.products, _least(keys, kept) - query.shift
    first, next_first = np.int64(0), np.int64(BLOCK)
    s, done, n = _name(sketches, spans, np.int64(0), np.int64(0), query.towards, block, first)
    while n > 0:
        s, done, next_n = _name(sketches, spans, s, done, query.towards, block, next_first)
        if sketches is not None:
            most_products(sketches, block, first, n, query.planes, query.cut)
        n_held = 0
        for p in range(first, first + n + 1):
            if n_held == _AT_ONCE or (p == first + n and n_held > 0):
                multiply_some(rows, held, n_held, vector, logits)
                for q in range(n_held):
                    place = np.uint64(held[q])
                    logit = logits[q] + BIAS_INPUT * biases[place]
                    if kept < len(keys) or logit >= keys[0]:
                        kept = offer(keys, best, kept, logit, np.int64(ids[place]))
                n_held, least = 0, _least(keys, kept) - query.shift
            if p < first + n and not mosts[p] < least:
                start = width * places[p]
                for number in range(start, min(start + width, start + _LINES * LINE * 4), LINE * 4):
                    prefetch(values, number)
                prefetch(scales, places[p])
                prefetch(biases, places[p])
                held[n_held] = places[p]
                n_held += 1
        first, next_first, n = next_first, first, next_n
    return kept


@njit(cache=True, nogil=True)
def _name(
    sketches: Sketches | None,
    spans: NDArray[np.int64],
    s: np.int64,
    done: np.int64,
    towards: NDArray[np.float32],
    block: Block,
    first: np.int64,
) -> tuple[np.int64, np.int64, np.int64]:
    """Name the next neurons of spans (n, 3) in a block, from ``first`` on.

    Of span ``s``, so many are done. With the product of their centroid, or infinity without
    sketches: anything is promised then. Returns both as they are then, and how many neurons.
    """
    places, products, n = block.places, block.products, np.int64(0)
    while s < len(spans) and n < BLOCK:
        start = spans[s, 0] + done
        size = min(spans[s, 1] - start, BLOCK - n)
        toward = np.float32(np.inf) if sketches is None else towards[spans[s, 2]]
        for j in range(size):
            places[np.uint64(first + n + j)] = start + j
            products[np.uint64(first + n + j)] = toward
        n, done = n + size, done + size
        if start + size == spans[s, 1]:
            s, done = s + 1, np.int64(0)
    return s, done, n
