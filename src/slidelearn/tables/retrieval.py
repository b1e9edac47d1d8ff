"""Retrieval: the neurons in the buckets that an example looks into, and which of them it keeps."""

from typing import NamedTuple, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

from slidelearn.errors import ConfigError, DataError
from slidelearn.hashing.mixing import below, mix_pair
from slidelearn.tables.buckets import Tables

__all__ = [
    "STRATEGIES",
    "Retrieved",
    "Rule",
    "Workspace",
    "make_rule",
    "make_workspace",
    "retrieve",
    "retrieve_one",
]

STRATEGIES = ("vanilla", "topk", "threshold")
_VANILLA = 0

_Int: TypeAlias = int | np.int64


class Rule(NamedTuple):
    """How neurons are picked from the buckets; see `retrieve` for each field."""

    limit: int
    cap: int
    strategy: int  # place in STRATEGIES
    min_count: int
    seed: int


class Workspace(NamedTuple):
    """Scratch of one thread. ``counts`` is all zero between examples."""

    counts: NDArray[np.int32]  # (N,) collisions of each neuron
    touched: NDArray[np.int32]  # (N,) neurons whose count is not zero, in the order found
    keys: NDArray[np.int64]  # (N,) heap of the best neurons
    order: NDArray[np.int32]  # (L,) tables in the order of their visit


class Retrieved(NamedTuple):
    """The neurons that each of n examples retrieved, as CSR.

    Attributes
    ----------
    indptr : int64 array of shape (n + 1,)
        Example i retrieved ``neurons[indptr[i] : indptr[i + 1]]``.
    neurons : int32 array of shape (nnz,)
        By falling count, then by id; for "vanilla" in the order found.
    counts : int32 array of shape (nnz,)
        In how many of the buckets that were looked into each neuron was found.
    truncated : int
        How many of these buckets were larger than the cap.
    """

    indptr: NDArray[np.int64]
    neurons: NDArray[np.int32]
    counts: NDArray[np.int32]
    truncated: int


def make_rule(limit: int, cap: int, strategy: str, min_count: int = 1, seed: int = 0) -> Rule:
    """Check the settings of `retrieve` and pack them for the kernels.

    Raises
    ------
    ConfigError
        If a setting is out of its range.
    """
    if strategy not in STRATEGIES:
        raise ConfigError(f"strategy is {strategy!r}, choose one of {', '.join(STRATEGIES)}")
    for name, value in (("limit", limit), ("cap", cap), ("min_count", min_count)):
        if value < 1:
            raise ConfigError(f"{name} is {value}, choose at least 1")
    if strategy != "threshold":
        min_count = 1
    return Rule(limit, cap, STRATEGIES.index(strategy), min_count, seed)


def make_workspace(tables: Tables) -> Workspace:
    """Allocate the scratch that one thread needs to retrieve from these tables."""
    n_tables, n_neurons = tables.neurons.shape
    return Workspace(
        np.zeros(n_neurons, np.int32),
        np.empty(n_neurons, np.int32),
        np.empty(n_neurons, np.int64),
        np.empty(n_tables, np.int32),
    )


def retrieve(
    tables: Tables,
    probes: NDArray[np.int32],
    *,
    limit: int,
    cap: int,
    strategy: str = "topk",
    min_count: int = 1,
    seed: int = 0,
    workspace: Workspace | None = None,
    first_example: int | None = None,
) -> Retrieved:
    """Find the neurons in the buckets that each example looks into.

    Random choices depend on the seed, the number of the example, the table and the probe alone:
    not on threads, nor on how examples are cut into batches if ``first_example`` counts on. Without
    numbers all examples draw alike, so that equal ones find the same.

    Parameters
    ----------
    tables : Tables
        Where the neurons are filed.
    probes : int32 array of shape (n, L, P)
        Buckets to look into, distinct in each table; -1 is skipped.
    limit : int
        Most neurons per example.
    cap : int
        Most neurons read from one bucket: of a larger one, a window of ``cap`` neighbours that
        starts at a random place and wraps around. So does a bucket that holds more than "vanilla"
        still wants.
    strategy : {"vanilla", "topk", "threshold"}
        "vanilla" visits tables in random order until ``limit`` neurons are found. "topk" takes
        the neurons found most often, the smaller id among equals. "threshold" does so among
        neurons found at least ``min_count`` times.
    min_count : int
        For "threshold" only.
    seed : int
        Of the random choices.
    workspace : Workspace, optional
        From `make_workspace`, one for each thread; allocated if missing.
    first_example : int, optional
        Number of the first example.

    Raises
    ------
    ConfigError
        If a setting is out of its range.
    DataError
        If the probes do not fit the tables.

    Examples
    --------
    >>> import numpy as np
    >>> from slidelearn.tables import build_tables
    >>> tables = build_tables(np.array([[1, 0], [0, 0], [1, 1]], np.int32), n_buckets=2)
    >>> found = retrieve(tables, np.array([[[1], [0]]], np.int32), limit=2, cap=10)
    >>> found.neurons.tolist(), found.counts.tolist()
    ([0, 1], [2, 1])
    """
    n_tables, n_neurons = tables.neurons.shape
    rule = make_rule(limit, cap, strategy, min_count, seed)
    _check_probes(probes, tables)
    workspace = make_workspace(tables) if workspace is None else workspace
    n, _, n_probes = probes.shape
    most = min(limit, n_neurons, n_tables * n_probes * cap)
    neurons, counts = np.empty(n * most, np.int32), np.empty(n * most, np.int32)
    indptr = np.zeros(n + 1, np.int64)
    examples = np.zeros(n, np.int64) if first_example is None else first_example + np.arange(n)
    truncated = _retrieve_rows(tables, probes, examples, rule, workspace, indptr, neurons, counts)
    nnz = int(indptr[-1])
    return Retrieved(indptr, neurons[:nnz].copy(), counts[:nnz].copy(), int(truncated))


@njit(cache=True, nogil=True)
def retrieve_one(
    tables: Tables,
    probes: NDArray[np.int32],
    example: int,
    rule: Rule,
    workspace: Workspace,
    neurons: NDArray[np.int32],
    counts: NDArray[np.int32],
) -> tuple[_Int, int]:
    """Retrieve for one example: probes (L, P) -> neurons and counts, (limit,) or longer.

    Returns how many neurons were written and how many buckets were larger than the cap.
    """
    if rule.strategy == _VANILLA:
        touched, truncated = _visit_some(tables, probes, example, rule, workspace)
        written = touched
        for i in range(written):
            neurons[i] = workspace.touched[i]
            counts[i] = workspace.counts[neurons[i]]
    else:
        touched, truncated = np.int64(0), 0  # for a literal, Numba compiles all below once more
        for table in range(probes.shape[0]):
            touched, cut = _visit(
                tables, table, probes, example, rule, workspace, touched, np.int64(-1)
            )
            truncated += cut
        written = _rank(workspace, touched, rule, neurons, counts)
    for i in range(touched):
        workspace.counts[workspace.touched[i]] = 0
    return written, truncated


@njit(cache=True, nogil=True)
def _retrieve_rows(
    tables: Tables,
    probes: NDArray[np.int32],
    examples: NDArray[np.int64],
    rule: Rule,
    workspace: Workspace,
    indptr: NDArray[np.int64],
    neurons: NDArray[np.int32],
    counts: NDArray[np.int32],
) -> int:
    """Retrieve for probes (n, L, P) of examples with numbers (n,), packed as CSR.

    Returns how many buckets were larger than the cap.
    """
    truncated = 0
    for row in range(probes.shape[0]):
        start = indptr[row]
        written, cut = retrieve_one(
            tables,
            probes[row],
            examples[row],
            rule,
            workspace,
            neurons[start:],
            counts[start:],
        )
        indptr[row + 1] = start + written
        truncated += cut
    return truncated


@njit(cache=True, nogil=True)
def _visit(
    tables: Tables,
    table: _Int,
    probes: NDArray[np.int32],
    example: int,
    rule: Rule,
    workspace: Workspace,
    touched: np.int64,
    most: _Int,
) -> tuple[np.int64, int]:
    """Count the neurons in the probed buckets of one table, until ``most`` are touched (-1: all).

    Returns how many neurons are touched now and how many buckets were larger than the cap.
    """
    truncated = 0
    for p in range(probes.shape[1]):
        bucket = probes[table, p]
        if bucket < 0 or touched == most:
            continue
        start, end = tables.offsets[table, bucket], tables.offsets[table, bucket + 1]
        place, size = start, end - start
        room = rule.cap if most < 0 else min(rule.cap, most - touched)
        if size > room:
            draw = mix_pair(mix_pair(mix_pair(rule.seed, example), table), p)
            place = start + below(draw, size)
            truncated += size > rule.cap
        for _ in range(min(size, rule.cap)):
            if touched == most:
                break
            neuron = tables.neurons[table, place]
            if workspace.counts[neuron] == 0:
                workspace.touched[touched] = neuron
                touched += 1
            workspace.counts[neuron] += 1
            place = place + 1 if place + 1 < end else start
    return touched, truncated


@njit(cache=True, nogil=True)
def _visit_some(
    tables: Tables, probes: NDArray[np.int32], example: int, rule: Rule, workspace: Workspace
) -> tuple[_Int, int]:
    """Visit tables in random order until ``limit`` neurons are touched.

    Returns how many neurons are touched and how many buckets were larger than the cap.
    """
    order, n_tables = workspace.order, probes.shape[0]
    for table in range(n_tables):
        order[table] = table
    touched, truncated = np.int64(0), 0
    for i in range(n_tables):
        if touched == rule.limit:
            break
        # Probe -1 does not exist: this draw is no window's.
        draw = mix_pair(mix_pair(mix_pair(rule.seed, example), i), -1)
        j = i + below(draw, n_tables - i)
        order[i], order[j] = order[j], order[i]
        touched, cut = _visit(
            tables, np.int64(order[i]), probes, example, rule, workspace, touched, rule.limit
        )
        truncated += cut
    return touched, truncated


@njit(cache=True, nogil=True)
def _rank(
    workspace: Workspace,
    touched: _Int,
    rule: Rule,
    neurons: NDArray[np.int32],
    counts: NDArray[np.int32],
) -> _Int:
    """Write the best ``limit`` touched neurons, by falling count, then by id.

    A heap holds the best so far, the worst of them on top; returns how many were written.
    """
    keys, kept, top = workspace.keys, np.int64(0), np.int64(0)
    for i in range(touched):
        neuron = workspace.touched[i]
        count = workspace.counts[neuron]
        if count < rule.min_count:
            continue
        key = (np.int64(-count) << 32) | np.int64(neuron)  # the smaller, the better
        if kept < rule.limit:
            keys[kept] = key
            kept += 1
            if kept == rule.limit:
                _heapify(keys, kept)
        elif key < keys[0]:
            keys[0] = key
            _sift_down(keys, top, kept)
    if kept < rule.limit:
        _heapify(keys, kept)
    for last in range(kept - 1, -1, -1):
        neurons[last] = keys[0] & 0x7FFFFFFF
        counts[last] = -(keys[0] >> 32)
        keys[0] = keys[last]
        _sift_down(keys, top, last)
    return kept


@njit(cache=True, nogil=True)
def _heapify(keys: NDArray[np.int64], size: _Int) -> None:
    """Order the first ``size`` keys as a heap with the largest on top.

    From the last parent up.
    """
    for place in range(size // 2 - 1, -1, -1):
        _sift_down(keys, place, size)


@njit(cache=True, nogil=True)
def _sift_down(keys: NDArray[np.int64], place: _Int, size: _Int) -> None:
    """Let one key sink to its place in a heap of ``size`` keys.

    Larger children move up.
    """
    if size == 0:
        return
    key = keys[place]
    child = 2 * place + 1
    while child < size:
        if child + 1 < size and keys[child + 1] > keys[child]:
            child += 1
        if keys[child] <= key:
            break
        keys[place] = keys[child]
        place = child
        child = 2 * place + 1
    keys[place] = key


def _check_probes(probes: NDArray[np.int32], tables: Tables) -> None:
    """Refuse probes of another shape than the tables, or to buckets that do not exist."""
    n_tables, n_buckets = tables.offsets.shape[0], tables.offsets.shape[1] - 1
    if probes.ndim != 3 or probes.shape[1] != n_tables:
        raise DataError(f"probes have shape {probes.shape}, the tables take (n, {n_tables}, P)")
    if probes.size and not (probes.min() >= -1 and probes.max() < n_buckets):
        raise DataError(
            f"probes run from {probes.min()} to {probes.max()}, "
            f"the tables have buckets 0 to {n_buckets - 1}"
        )
