"""Ranking: the best neurons of the buckets that may hold them, by rows kept beside the tables.

Rows of a bucket lie one behind the other, as bytes, so a lookup reads memory in order: a quarter of
what float32 rows would be, and none of it from all over the layer. Sketches spare most of that.
The first buckets say how good a neuron must be. Of all others, those are read whose neurons may be
so good, and these are few for most queries: of ten million planted rows, 19,000 are looked at on
average for 99 % of the best 5, half of the time fewer than 6,000, where as many buckets for every
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
from slidelearn.tables.sketches import PLANES, Sketches, cut_query, most_product

__all__ = ["rank_buckets", "rank_probed"]

_FIRST = 2  # directions that are looked at first, for every neuron that is kept
_AT_ONCE = 32  # spans, and rows, that are prefetched before the first of them is read
_ROWS = 256  # sketches that are read before rows are
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
    zero = np.float32(0)
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
        kept = _read(tables, rows, None, spans[:n], query, keys, best, np.int64(0))
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
    keys, outline = np.empty(room, np.float32), outlook.outline
    unread, spans = np.empty_like(outline.starts), np.empty((max(first, _AT_ONCE), 3), np.int64)
    hopes = np.empty(FULL * first, np.float32)
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
            spread, c = _PARTS[part] * reach * query.norm, 0
            while c < len(unread):
                if part == 0:
                    n, c = _nearest(tables, outline, query, hopes, unread, spans), len(unread)
                else:
                    c, n = _promising(tables, outline, query, spread, keys, c, unread, spans)
                kept = _read(tables, rows, sketches, spans[:n], query, keys, best, kept)
        best[:kept].sort()
        indptr[i + 1] = indptr[i] + kept


@njit(cache=True, nogil=True)
def _nearest(
    tables: Tables,
    outline: Outline,
    query: _Query,
    hopes: NDArray[np.float32],
    unread: NDArray[np.int32],
    spans: NDArray[np.int64],
) -> int:
    """Take the longest neurons of the directions that promise most, a quarter as many as hopes.

    They hope for what a neuron one standard deviation better than its centroid has; ``hopes`` is
    room for that. Returns how many spans there are.
    """
    nearest, n, least = np.empty(len(hopes), np.int32), np.uint64(0), np.float32(-np.inf)
    towards, radii, longest = query.towards, outline.radii, outline.longest
    full = np.uint64(len(hopes))
    for c in range(len(unread)):
        hope = (towards[c] + query.norm * radii[c]) * longest[c]
        hopes[n], nearest[n] = hope, c
        n += np.uint64((hope >= least) & (longest[c] > 0))
        if n == full:
            n = np.uint64(keep_largest(hopes, nearest, len(hopes) // FULL))
            least = hopes[:n].min()
    kept = keep_largest(hopes[:n], nearest, len(hopes) // FULL)
    for s in range(kept):
        _take(tables, outline, int(nearest[s]), int(unread[nearest[s]]) + 1, unread, spans, s)
    return int(kept)


@njit(cache=True, nogil=True)
def _promising(
    tables: Tables,
    outline: Outline,
    query: _Query,
    spread: np.float32,
    keys: NDArray[np.float32],
    c: int,
    unread: NDArray[np.int32],
    spans: NDArray[np.int64],
) -> tuple[int, int]:
    """Take all buckets from direction c on that promise more than the worst neuron kept has.

    ``unread`` (C,) is the next level of every direction, ``spread`` what a radius promises. Returns
    the direction to go on with, and how many spans there are: no more than have room.
    """
    lengths, n = outline.lengths, 0
    while c < len(unread) and n < len(spans):
        most = query.towards[c] + spread * outline.radii[c]
        if not _promise(most, outline.longest[c], lengths[-1]) + query.shift < keys[0]:
            level = int(unread[c])
            while level < len(lengths) and not (
                _promise(most, lengths[level], lengths[-1]) + query.shift < keys[0]
            ):
                level += 1
            if level > unread[c]:
                _take(tables, outline, c, level, unread, spans, n)
                n += 1
        c += 1
    return c, n


@njit(cache=True, nogil=True, forceinline=True)
def _take(
    tables: Tables,
    outline: Outline,
    c: int,
    level: int,
    unread: NDArray[np.int32],
    spans: NDArray[np.int64],
    n: int,
) -> None:
    """Note where the neurons of a direction up to a level lie that are not read yet: spans[n]."""
    offsets, start = tables.offsets[0], c * len(outline.lengths)
    spans[n, 0], spans[n, 1], spans[n, 2] = offsets[start + unread[c]], offsets[start + level], c
    unread[c] = level


@njit(cache=True, nogil=True, forceinline=True)
def _promise(most: np.float32, length: np.float32, shortest: np.float32) -> np.float32:
    """What neurons of a length have at most; of a negative product, the shortest have most."""
    return most * length if most > 0 else most * shortest


@njit(cache=True, nogil=True, forceinline=True)
def _read(
    tables: Tables,
    rows: SmallRows,
    sketches: Sketches | None,
    spans: NDArray[np.int64],
    query: _Query,
    keys: NDArray[np.float32],
    best: NDArray[np.int32],
    kept: np.int64,
) -> np.int64:
    """Offer the neurons of spans (n, 3): from, to, direction; returns how many are kept then.

    Whole arrays by index, many rows at once: for each row alone, Numba counted references to parts
    of arrays by 40 locked instructions, which took half of a query.
    """
    if sketches is not None:
        _prefetch_sketches(sketches, spans)
    places, mosts = np.empty(_ROWS, np.int64), np.empty(_ROWS, np.float32)
    held, logits = np.empty(_AT_ONCE, np.int64), np.empty(_AT_ONCE, np.float32)
    values, vector, ids = rows.values.reshape(-1), query.vector, tables.neurons[0]
    scales, biases, width = rows.scales, rows.bias, rows.values.shape[1]
    next_span, done = 0, np.int64(0)
    while next_span < len(spans):
        next_span, done, n = _estimate(sketches, spans, next_span, done, query, places, mosts)
        n_held = 0
        for p in range(n + 1):
            if n_held == _AT_ONCE or (p == n and n_held > 0):
                multiply_some(rows, held, n_held, vector, logits)
                for q in range(n_held):
                    place = np.uint64(held[q])
                    logit = logits[q] + BIAS_INPUT * biases[place]
                    if kept < len(keys) or logit >= keys[0]:
                        kept = offer(keys, best, kept, logit, np.int64(ids[place]))
                n_held = 0
            if p < n and (kept < len(keys) or not mosts[p] < keys[0]):
                first = width * places[p]
                for number in range(first, min(first + width, first + _LINES * LINE * 4), LINE * 4):
                    prefetch(values, number)
                prefetch(scales, places[p])
                prefetch(biases, places[p])
                prefetch(ids, places[p])
                held[n_held] = places[p]
                n_held += 1
    return kept


@njit(cache=True, nogil=True, forceinline=True)
def _prefetch_sketches(sketches: Sketches, spans: NDArray[np.int64]) -> None:
    """Begin to load the first sketches of spans."""
    width, words = sketches.words.shape[1], sketches.words.reshape(-1)
    for s in range(len(spans)):
        end = min(width * spans[s, 1], width * spans[s, 0] + _LINES * LINE // 2)
        for word in range(width * spans[s, 0], end, LINE // 2):
            prefetch(words, word)


@njit(cache=True, nogil=True)
def _estimate(
    sketches: Sketches | None,
    spans: NDArray[np.int64],
    s: int,
    done: np.int64,
    query: _Query,
    places: NDArray[np.int64],
    mosts: NDArray[np.float32],
) -> tuple[int, np.int64, int]:
    """Say what logits the next neurons of spans have at most: places and mosts, (m,).

    Without sketches that is anything. Of span ``s``, so many are done. Returns both as they are
    then, and how many neurons there are. A loop of its own, without branches, takes 7 ns less for a
    neuron than one with them.
    """
    n, planes, cut = np.uint64(0), query.planes, query.cut
    while s < len(spans):
        start = spans[s, 0] + done
        end = min(spans[s, 1], start + len(mosts) - np.int64(n))
        if sketches is None:
            for place in range(start, end):
                mosts[n], places[n] = np.inf, place
                n += np.uint64(1)
        else:
            toward = query.towards[spans[s, 2]]
            for place in range(np.uint64(start), np.uint64(end)):
                mosts[n] = most_product(sketches, place, planes, cut, toward) + query.shift
                places[n] = place
                n += np.uint64(1)
        if end < spans[s, 1]:
            return s, end - spans[s, 0], int(n)
        s, done = s + 1, np.int64(0)
    return s, done, int(n)
