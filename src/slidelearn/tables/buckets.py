"""Tables: which neurons are in which bucket, and how evenly they are spread."""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from slidelearn.errors import DataError

__all__ = ["Occupancy", "Tables", "build_tables", "occupancy", "update_tables"]

_COLUMNS_AT_ONCE = 16  # tables whose codes share a cache line


class Tables(NamedTuple):
    """L tables of N neurons each; every neuron is in exactly one bucket of every table.

    Attributes
    ----------
    offsets : int64 array of shape (L, n_buckets + 1)
        Bucket b of table t is ``neurons[t, offsets[t, b] : offsets[t, b + 1]]``.
    neurons : int32 array of shape (L, N)
        Neurons grouped by bucket, ascending within a bucket.
    codes : int32 array of shape (N, L)
        The code under which each neuron is filed.
    filled : int32 array of shape (L, n_buckets + 1)
        The first bucket, from a bucket on, that holds a neuron; n_buckets where there is none.
    """

    offsets: NDArray[np.int64]
    neurons: NDArray[np.int32]
    codes: NDArray[np.int32]
    filled: NDArray[np.int32]


class Occupancy(NamedTuple):
    """How evenly neurons are spread over buckets.

    Attributes
    ----------
    non_empty : int64 array of shape (L,)
        Buckets that hold a neuron.
    largest : int64 array of shape (L,)
        Size of the largest bucket.
    mean_seen : float64 array of shape (L,)
        Mean size of the bucket that a neuron, drawn at random, is in.
    largest_buckets : list of (table, bucket, size)
        The largest buckets of all tables, largest first.
    """

    non_empty: NDArray[np.int64]
    largest: NDArray[np.int64]
    mean_seen: NDArray[np.float64]
    largest_buckets: list[tuple[int, int, int]]


def build_tables(codes: NDArray[np.int32], n_buckets: int) -> Tables:
    """File every neuron in every table by a counting sort; nothing is dropped.

    Parameters
    ----------
    codes : int32 array of shape (N, L)
        Bucket of each neuron in each table; kept, not copied.
    n_buckets : int
        Buckets per table.

    Raises
    ------
    DataError
        If a code is not in ``[0, n_buckets)``.

    Examples
    --------
    >>> import numpy as np
    >>> tables = build_tables(np.array([[1], [0], [1]], np.int32), n_buckets=2)
    >>> tables.neurons.tolist(), tables.offsets.tolist()
    ([[1, 0, 2]], [[0, 1, 3]])
    """
    codes = np.ascontiguousarray(codes, dtype=np.int32)
    _check_codes(codes, n_buckets)
    n_neurons, n_tables = codes.shape
    offsets = np.empty((n_tables, n_buckets + 1), np.int64)
    neurons = np.empty((n_tables, n_neurons), np.int32)
    _file_tables(codes, np.arange(n_tables), offsets, neurons)
    return Tables(offsets, neurons, codes, _filled(offsets))


def update_tables(
    tables: Tables, neurons: NDArray[np.integer], codes: NDArray[np.int32]
) -> tuple[Tables, int]:
    """File some neurons under new codes; equal to a rebuild.

    Only tables in which a neuron moves are sorted again. The given tables stay as they are; if
    nothing moves, they are what is returned.

    Parameters
    ----------
    tables : Tables
        To start from.
    neurons : int array of shape (m,)
        Distinct neurons.
    codes : int32 array of shape (m, L)
        Their new codes.

    Returns
    -------
    Tables, int
        New tables, and how many times a neuron moved to another bucket, summed over the tables.

    Raises
    ------
    DataError
        If a code or a neuron is out of range, or a neuron comes twice.

    Examples
    --------
    >>> import numpy as np
    >>> tables = build_tables(np.array([[1], [0], [1]], np.int32), n_buckets=2)
    >>> tables, n_moved = update_tables(tables, np.array([2]), np.array([[0]], np.int32))
    >>> n_moved, tables.neurons.tolist()
    (1, [[1, 2, 0]])
    """
    _check_codes(codes, tables.offsets.shape[1] - 1)
    _check_neurons(neurons, len(tables.codes))
    moved = tables.codes[neurons] != codes  # (m, L)
    changed = np.flatnonzero(moved.any(axis=0))
    if len(changed) == 0:
        return tables, 0
    offsets, filed, updated = tables.offsets.copy(), tables.neurons.copy(), tables.codes.copy()
    updated[neurons] = codes
    _file_tables(updated, changed, offsets, filed)
    return Tables(offsets, filed, updated, _filled(offsets)), int(np.count_nonzero(moved))


def occupancy(tables: Tables, n_largest: int = 10) -> Occupancy:
    """Measure how evenly neurons are spread, and name the ``n_largest`` largest buckets.

    Examples
    --------
    >>> import numpy as np
    >>> tables = build_tables(np.array([[1], [0], [1]], np.int32), n_buckets=4)
    >>> occupancy(tables, n_largest=1).largest_buckets
    [(0, 1, 2)]
    """
    sizes = np.diff(tables.offsets, axis=1)  # (L, n_buckets)
    n_neurons = tables.neurons.shape[1]
    order = np.argsort(-sizes, axis=None, kind="stable")[:n_largest]
    largest = [(int(t), int(b)) for t, b in zip(*np.unravel_index(order, sizes.shape), strict=True)]
    return Occupancy(
        np.count_nonzero(sizes, axis=1),
        sizes.max(axis=1),
        np.square(sizes, dtype=np.float64).sum(axis=1) / max(n_neurons, 1),
        [(t, b, int(sizes[t, b])) for t, b in largest],
    )


def _filled(offsets: NDArray[np.int64]) -> NDArray[np.int32]:
    """The first filled bucket from each on, (L, n_buckets + 1)."""
    n_tables, n_buckets = offsets.shape[0], offsets.shape[1] - 1
    numbers = np.arange(n_buckets, dtype=np.int32)
    own = np.where(offsets[:, 1:] > offsets[:, :-1], numbers, np.int32(n_buckets))
    out = np.full((n_tables, n_buckets + 1), n_buckets, np.int32)
    np.minimum.accumulate(own[:, ::-1], axis=1, out=out[:, :-1][:, ::-1])
    return out


@njit(cache=True, nogil=True)
def _file_tables(
    codes: NDArray[np.int32],
    which: NDArray[np.int64],
    offsets: NDArray[np.int64],
    neurons: NDArray[np.int32],
) -> None:
    """Sort neurons by their codes (N, L) in the tables ``which``, into offsets and neurons.

    A few columns are copied out at a time, so that a row's cache line is read once for them all.
    """
    n_neurons = codes.shape[0]
    columns = np.empty((min(_COLUMNS_AT_ONCE, len(which)), n_neurons), np.int32)
    for start in range(0, len(which), _COLUMNS_AT_ONCE):
        group = which[start : start + _COLUMNS_AT_ONCE]
        for neuron in range(n_neurons):
            for i in range(len(group)):
                columns[i, neuron] = codes[neuron, group[i]]
        for i in range(len(group)):
            _counting_sort(columns[i], offsets[group[i]], neurons[group[i]])


@njit(cache=True, nogil=True)
def _counting_sort(
    codes: NDArray[np.int32], offsets: NDArray[np.int64], neurons: NDArray[np.int32]
) -> None:
    """Sort the neurons of one table by codes (N,) into offsets (n_buckets + 1,), neurons (N,).

    Neurons of a bucket stay ascending.
    """
    offsets[:] = 0
    for neuron in range(len(codes)):
        offsets[codes[neuron] + 1] += 1
    for bucket in range(1, len(offsets)):
        offsets[bucket] += offsets[bucket - 1]
    cursors = offsets[:-1].copy()
    for neuron in range(len(codes)):
        code = codes[neuron]
        neurons[cursors[code]] = neuron
        cursors[code] += 1


def _check_codes(codes: NDArray[np.int32], n_buckets: int) -> None:
    """Refuse codes that are not buckets."""
    if codes.size == 0:
        return
    worst = np.asarray(codes, np.int32).view(np.uint32).argmax()  # a negative code is largest
    row, table = (int(i) for i in np.unravel_index(worst, codes.shape))
    if not 0 <= codes[row, table] < n_buckets:
        raise DataError(
            f"code {codes[row, table]} of row {row}, table {table} is not a bucket: "
            f"it must be from 0 to {n_buckets - 1}"
        )


def _check_neurons(neurons: NDArray[np.integer], n_neurons: int) -> None:
    """Refuse neurons that do not exist or come twice."""
    if len(neurons) and not (neurons.min() >= 0 and neurons.max() < n_neurons):
        raise DataError(
            f"neurons to update run from {neurons.min()} to {neurons.max()}, "
            f"the tables hold 0 to {n_neurons - 1}"
        )
    if len(np.unique(neurons)) < len(neurons):
        raise DataError(f"{len(neurons)} neurons to update are not distinct: drop the repeats")
