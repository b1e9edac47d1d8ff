"""Layers: the weights of neurons, what they compute on an active set, and how they are updated."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from slidelearn.coarse_rows import CoarseRows, multiply_coarse
from slidelearn.csr import count_ids, cut_rows
from slidelearn.optimizers import Optimizer, Step, make_optimizer, move_row
from slidelearn.prefetching import prefetch_row
from slidelearn.rows import BIAS_INPUT, Rows, add_scaled_row, dot_row
from slidelearn.small_rows import SmallRows, multiply_some
from slidelearn.workers import pieces

__all__ = [
    "Groups",
    "Layer",
    "Pairs",
    "coarse_logits",
    "examples_of",
    "group_entries",
    "keep_pairs",
    "make_layer",
    "pair_input_gradient",
    "pair_logits",
    "pairs_of",
    "small_logits",
    "update_rows",
]

_ROWS_PER_PIECE = 256


class Layer(NamedTuple):
    """Weights of a layer with their optimizer.

    A dense layer is stored input-major, so that a sparse input touches few rows; the last row is
    the bias. A hashed layer is stored neuron-major, so that a neuron is one row; the last column
    is the bias.

    Attributes
    ----------
    weight : float32 array of shape (n_in + 1, n_out), or (n_out, n_in + 1) if ``hashed``
        The weights and the bias.
    optimizer : Optimizer
        Its state, row by row.
    hashed : bool
        Only the active neurons of an example are computed.
    small : SmallRows or None
        The same weights for predictions only; ``weight`` is then empty.
    """

    weight: NDArray[np.float32]
    optimizer: Optimizer
    hashed: bool
    small: SmallRows | None = None

    @property
    def n_in(self) -> int:
        """Inputs, without the constant."""
        if self.hashed and self.small is not None:
            return int(self.small.values.shape[1])
        return self._shape[1 if self.hashed else 0] - 1

    @property
    def n_out(self) -> int:
        """Neurons."""
        return self._shape[0 if self.hashed else 1]

    @property
    def _shape(self) -> tuple[int, ...]:
        return self.weight.shape if self.small is None else self.small.values.shape

    @property
    def bias(self) -> NDArray[np.float32]:
        """The neurons' weights of the constant, (n_out,), of a hashed layer."""
        return self.weight[:, -1] if self.small is None else self.small.bias

    def neurons(self, start: int, end: int) -> NDArray[np.float32]:
        """Weights of some neurons of a hashed layer, (m, n_in + 1)."""
        return self.weight[start:end] if self.small is None else self.small.floats(start, end)


class Pairs(NamedTuple):
    """Which neurons each of n examples computes: ``neurons[indptr[i] : indptr[i + 1]]``."""

    indptr: NDArray[np.int64]
    neurons: NDArray[np.int32]

    def part(self, start: int, end: int) -> "Pairs":
        """Those of the examples start to end; a view."""
        indptr, own = cut_rows(self.indptr, start, end)
        return Pairs(indptr, self.neurons[own])


def pairs_of(Y: csr_matrix) -> Pairs:
    """Labels Y (n, l) as the pairs of their examples.

    Examples
    --------
    >>> pairs_of(csr_matrix([[0, 1], [1, 1]])).neurons.tolist()
    [1, 0, 1]
    """
    indptr = Y.indptr.astype(np.int64, copy=False)
    return Pairs(indptr, Y.indices.astype(np.int32, copy=False))


def examples_of(Y: csr_matrix) -> Pairs:
    """Examples, ascending, of every label of Y (n, l): `Pairs` with the roles exchanged.

    Examples
    --------
    >>> examples_of(csr_matrix([[0, 1], [1, 1]])).neurons.tolist()
    [1, 0, 1]
    """
    labels = pairs_of(Y)
    indptr = np.zeros(Y.shape[1] + 1, np.int64)
    np.cumsum(count_ids(labels.neurons, Y.shape[1]), out=indptr[1:])
    examples = np.empty(len(labels.neurons), np.int32)
    _turn(labels, indptr[:-1].copy(), examples)
    return Pairs(indptr, examples)


@njit(cache=True, nogil=True)
def _turn(labels: Pairs, places: NDArray[np.int64], examples: NDArray[np.int32]) -> None:
    """Write every example into the places of its labels, from ``places`` (l,) on: (nnz,)."""
    for i in range(len(labels.indptr) - 1):
        for label in labels.neurons[labels.indptr[i] : labels.indptr[i + 1]]:
            examples[places[label]] = i
            places[label] += 1


@njit(cache=True, nogil=True)
def keep_pairs(
    pairs: Pairs, delta: NDArray[np.float32], least: float
) -> tuple[Pairs, NDArray[np.int64]]:
    """Keep the pairs whose delta, (n_pairs,), is at least so large, or NaN, and their places.

    Examples
    --------
    >>> pairs = Pairs(np.array([0, 1, 3]), np.array([7, 4, 5], np.int32))
    >>> kept, places = keep_pairs(pairs, np.array([0, -2, 0.5], np.float32), 1.0)
    >>> kept.indptr.tolist(), kept.neurons.tolist(), places.tolist()
    ([0, 0, 1], [4], [1])
    """
    indptr, places = np.zeros(len(pairs.indptr), np.int64), np.empty(len(delta), np.int64)
    at = 0
    for i in range(len(pairs.indptr) - 1):
        for p in range(pairs.indptr[i], pairs.indptr[i + 1]):
            places[at] = p
            at += not abs(delta[p]) < least
        indptr[i + 1] = at
    places = places[:at].copy()
    return Pairs(indptr, pairs.neurons[places]), places


class Groups(NamedTuple):
    """The gradient of a batch, grouped by the row of weights that it moves.

    Attributes
    ----------
    rows : int32 array of shape (g,)
        The rows that move, ascending.
    indptr : int64 array of shape (g + 1,)
        Entries of group k: ``entries[indptr[k] : indptr[k + 1]]``.
    entries : int64 array
        Places in the ungrouped arrays, ascending in a group.
    shared : int64 array of shape (g,)
        Row of the shared gradient that belongs to the group, or -1.
    """

    rows: NDArray[np.int32]
    indptr: NDArray[np.int64]
    entries: NDArray[np.int64]
    shared: NDArray[np.int64]


def make_layer(
    n_in: int, n_out: int, *, hashed: bool, optimizer: str, scale: float, rng: np.random.Generator
) -> Layer:
    """Make a layer with uniform weights of standard deviation ``scale`` and no bias.

    Gaussian ones took a second longer for 84 million.
    """
    shape = (n_out, n_in + 1) if hashed else (n_in + 1, n_out)
    if scale:
        weight = rng.random(shape, dtype=np.float32)
        weight -= np.float32(0.5)
        weight *= np.float32(np.sqrt(12) * scale)
    else:
        weight = np.zeros(shape, np.float32)
    if hashed:
        weight[:, -1] = 0
    else:
        weight[-1] = 0
    return Layer(weight, make_optimizer(optimizer, shape), hashed)


def group_entries(ids: NDArray[np.integer], shared: NDArray[np.integer]) -> Groups:
    """Group entries by the row that each moves, and add the rows of a shared gradient, ascending.

    Examples
    --------
    >>> groups = group_entries(np.array([7, 2, 7]), shared=np.array([2, 4]))
    >>> groups.rows.tolist(), groups.entries.tolist(), groups.shared.tolist()
    ([2, 4, 7], [1, 0, 2], [0, 1, -1])
    """
    keys = (ids.astype(np.int64) << 32) | np.arange(len(ids))  # sorting them is 5x argsort's speed
    keys.sort()
    most = len(ids) + len(shared)
    groups = Groups(
        np.empty(most, np.int32),
        np.zeros(most + 1, np.int64),
        np.empty(len(ids), np.int64),
        np.full(most, -1, np.int64),
    )
    n = _fill_groups(keys, np.asarray(shared, np.int64), groups)
    return Groups(groups.rows[:n], groups.indptr[: n + 1], groups.entries, groups.shared[:n])


@njit(cache=True, nogil=True)
def _fill_groups(keys: NDArray[np.int64], shared: NDArray[np.int64], groups: Groups) -> int:
    """Merge sorted keys, a row and an entry each, with ascending shared rows; returns how many."""
    n, e, s = 0, 0, 0
    while e < len(keys) or s < len(shared):
        row = shared[s] if s < len(shared) else np.int64(1) << 32
        if e < len(keys):
            row = min(row, keys[e] >> 32)
        groups.rows[n] = row
        if s < len(shared) and shared[s] == row:
            groups.shared[n] = s
            s += 1
        while e < len(keys) and keys[e] >> 32 == row:
            groups.entries[e] = keys[e] & 0xFFFFFFFF
            e += 1
        n += 1
        groups.indptr[n] = e
    return n


def update_rows(
    layer: Layer,
    groups: Groups,
    entry: tuple[NDArray[np.int64], NDArray[np.float32]],
    vectors: Rows,
    shared_gradient: NDArray[np.float32],
    step: Step,
    run: Callable[[Callable[..., None], Sequence[tuple[int, int]]], object],
) -> None:
    """Move every row of a batch's groups once; one task owns a row, so nothing races.

    Parameters
    ----------
    layer : Layer
        Whose rows move.
    groups : Groups
        From `group_entries`.
    entry : (int64 array, float32 array)
        For each entry: which of the vectors it scales, and by how much.
    vectors : Rows
        What the gradient of an entry is a multiple of; as wide as a row of weights.
    shared_gradient : float32 array of shape (m, d)
        Gradient that came from matrix products, for the groups that name a row of it.
    step : Step
        Learning rate and decay.
    run : callable
        Runs a function on each of some ranges, perhaps on several threads.
    """

    def move(start: int, end: int) -> None:
        _move_groups(
            layer.weight,
            layer.optimizer,
            groups,
            start,
            end,
            *entry,
            vectors,
            shared_gradient,
            step,
        )

    run(move, pieces(len(groups.rows), _ROWS_PER_PIECE))


@njit(cache=True, nogil=True)
def _move_groups(
    weight: NDArray[np.float32],
    optimizer: Optimizer,
    groups: Groups,
    start: int,
    end: int,
    examples: NDArray[np.int64],
    scales: NDArray[np.float32],
    vectors: Rows,
    shared_gradient: NDArray[np.float32],
    step: Step,
) -> None:
    """Sum the gradient of groups start to end and move their rows of weights (n, d).

    Entries are added in their order in the batch.
    """
    gradient = np.empty(weight.shape[1], np.float32)
    for k in range(start, end):
        prefetch_row(weight, groups.rows[k])  # for writing, after the sums
        if groups.shared[k] >= 0:
            gradient[:] = shared_gradient[groups.shared[k]]
        else:
            gradient[:] = 0
        for e in groups.entries[groups.indptr[k] : groups.indptr[k + 1]]:
            add_scaled_row(vectors, examples[e], scales[e], gradient)
        move_row(weight, optimizer, groups.rows[k], gradient, step)


@njit(cache=True, nogil=True, forceinline=True)
def pair_logits(
    rows: Rows, weight: NDArray[np.float32], pairs: Pairs, out: NDArray[np.float32]
) -> None:
    """Compute the active neurons only: weights (N, width + 1) -> out (n_pairs,)."""
    for i in range(len(pairs.indptr) - 1):
        for p in range(pairs.indptr[i], pairs.indptr[i + 1]):
            if p + 1 < len(pairs.neurons):
                prefetch_row(weight, pairs.neurons[p + 1])
            if rows.dense:
                out[p] = _dot(weight, pairs.neurons[p], rows.values, rows.indptr[i])
            else:
                out[p] = dot_row(rows, i, weight[pairs.neurons[p]])


@njit(cache=True, nogil=True, fastmath=True, forceinline=True)
def _dot(
    weight: NDArray[np.float32], neuron: int, values: NDArray[np.float32], start: int
) -> np.float32:
    """Inner product of a neuron's weights (d,) with as many values from start on.

    Slices count references: 80 products take 12.9 us with two each, and 6.0 with one.
    """
    row, first, total = np.uint64(neuron), np.uint64(start), np.float32(0)
    for j in range(np.uint64(weight.shape[1])):
        total += weight[row, j] * values[first + j]
    return total


@njit(cache=True, nogil=True, forceinline=True)
def small_logits(h: Rows, weight: SmallRows, pairs: Pairs, out: NDArray[np.float32]) -> None:
    """Do the same with small rows, for dense inputs ``h``: out (n_pairs,)."""
    for i in range(len(pairs.indptr) - 1):
        vector = h.values[h.indptr[i] : h.indptr[i + 1]]
        start, end = pairs.indptr[i], pairs.indptr[i + 1]
        multiply_some(weight, pairs.neurons[start:end], end - start, vector, out[start:end])
    for p in range(len(pairs.neurons)):
        out[p] += BIAS_INPUT * weight.bias[pairs.neurons[p]]


@njit(cache=True, nogil=True, forceinline=True)
def coarse_logits(
    h: Rows,
    weight: CoarseRows,
    bias: NDArray[np.float32],
    pairs: Pairs,
    out: NDArray[np.float32],
) -> None:
    """Do it roughly with coarse rows, for dense inputs ``h``: out (n_pairs,).

    ``bias`` (N,) is what the constant adds, in one place: those of rows lie a row apart, and to
    read 140 of them took half of the time of a single example's logits.
    """
    multiply_coarse(weight, pairs.indptr, pairs.neurons, (h.indptr, h.values), out)
    for p in range(len(pairs.neurons)):
        out[p] += bias[pairs.neurons[p]]


@njit(cache=True, nogil=True, fastmath=True)
def pair_input_gradient(
    rows: Rows,
    weight: NDArray[np.float32],
    pairs: Pairs,
    delta: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Add to the stored inputs' gradient, ``out`` like ``rows.values``, from (n_pairs,) delta."""
    for i in range(len(pairs.indptr) - 1):
        start, end = rows.indptr[i], rows.indptr[i + 1]
        target, indices = out[start:end], rows.indices[start : end if not rows.dense else start]
        for p in range(pairs.indptr[i], pairs.indptr[i + 1]):
            if p + 1 < len(pairs.neurons):
                prefetch_row(weight, pairs.neurons[p + 1])
            source, d = weight[pairs.neurons[p]], delta[p]
            if rows.dense:
                for j in range(len(target)):
                    target[j] += d * source[j]
            else:
                for j in range(len(target)):
                    target[j] += d * source[indices[j]]
