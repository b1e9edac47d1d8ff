"""Ranking: the best neurons of the buckets that an example looks into, by rows kept beside them.

Rows of a bucket lie one behind the other, as bytes, so a lookup reads memory in order: a quarter of
what float32 rows would be, and none of it from all over the layer.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from slidelearn.heap import offer
from slidelearn.layers import Pairs
from slidelearn.rows import BIAS_INPUT, Rows
from slidelearn.small_rows import SmallRows, dot_small
from slidelearn.tables.buckets import Tables

__all__ = ["rank_buckets"]


def rank_buckets(
    tables: Tables, rows: SmallRows, probes: NDArray[np.int32], queries: Rows, limit: int
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
    _rank(tables, rows, probes, queries, room, indptr, neurons)
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
                logit = rows.scales[place] * dot_small(rows.values[place], vector)
                logit += BIAS_INPUT * rows.bias[place]
                if kept < room or logit >= keys[0]:
                    kept = offer(keys, best, kept, logit, np.int64(tables.neurons[0, place]))
        best[:kept].sort()
        indptr[i + 1] = indptr[i] + kept
