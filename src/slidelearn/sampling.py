"""Sampling: the active sets of a batch, as strata."""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from slidelearn.layers import Pairs
from slidelearn.losses import Strata
from slidelearn.sorting import sort_ids

__all__ = ["Chances", "Tail", "draw_tail", "join_strata", "tail_chances", "unite"]


class Tail(NamedTuple):
    """A draw of neurons that a batch shares: m of them, ascending and distinct.

    ``weights`` (m,) is how many neurons each stands for, one by how likely it was to be drawn.
    """

    neurons: NDArray[np.int32]
    weights: NDArray[np.float32]


class Chances(NamedTuple):
    """How likely every neuron is to be drawn into a tail, (N,), and the running sum, (N,)."""

    each: NDArray[np.float64]
    sums: NDArray[np.float64]


def tail_chances(counts: NDArray[np.integer], size: int) -> Chances:
    """Chances of N labels that occur ``counts`` (N,) times, for tails of ``size``.

    Labels are drawn as often as they occur: frequent ones are the wrong answers that cost most, and
    retrieval, which ranks by closeness, seldom finds them. Those that never occur are not drawn, so
    that the loss is one over labels that do. From ``size`` N on, all are drawn.

    Examples
    --------
    >>> tail_chances(np.array([98, 1, 1, 0]), 2).each.tolist()
    [1.0, 0.02, 0.02, 0.0]
    """
    each = np.ones(len(counts))
    if size < len(counts):
        each = np.minimum(size * counts / max(int(counts.sum()), 1), 1.0)
    return Chances(each, np.cumsum(each))


def draw_tail(chances: Chances, rng: np.random.Generator) -> Tail:
    """Draw neurons at even distances along the running sum of their chances.

    The chance of a neuron is exact, and no neuron is drawn twice.
    """
    sums = chances.sums
    points = np.arange(rng.random(), sums[-1] if len(sums) else 0.0, 1.0)
    neurons = np.searchsorted(sums, points, side="right")
    return Tail(neurons.astype(np.int32), (1 / chances.each[neurons]).astype(np.float32))


@njit(cache=True, nogil=True)
def unite(sets: tuple[Pairs, ...]) -> Pairs:
    """Neurons of any of the sets of every example, ascending and distinct.

    Examples
    --------
    >>> one = np.array([0, 2])
    >>> unite((Pairs(one, np.array([7, 1])), Pairs(one, np.array([7, 4])))).neurons.tolist()
    [1, 4, 7]
    """
    indptr, most = np.zeros(len(sets[0].indptr), np.int64), 0
    for which in sets:
        most += len(which.neurons)
    neurons = np.empty(most, np.int32)
    for i in range(len(indptr) - 1):
        own, size = neurons[indptr[i] :], 0
        for which in sets:
            for neuron in which.neurons[which.indptr[i] : which.indptr[i + 1]]:
                own[size] = neuron
                size += 1
        sort_ids(own[:size])
        kept = 0
        for neuron in own[:size]:
            own[kept] = neuron
            kept += kept == 0 or own[kept - 1] != neuron
        indptr[i + 1] = indptr[i] + kept
    return Pairs(indptr, neurons[: indptr[-1]])


def join_strata(
    labels: Pairs, found: Pairs | None, tail: Tail, lone: NDArray[np.bool_] | None = None
) -> Strata:
    """Stratum T of every example: its labels, ascending, then what was found and is no label.

    Labels that ``lone`` (N,) marks are no targets, and come after those that are.

    Examples
    --------
    >>> found = Pairs(np.array([0, 3]), np.array([4, 1, 0], np.int32))
    >>> tail = Tail(np.array([3], np.int32), np.array([2], np.float32))
    >>> strata = join_strata(Pairs(np.array([0, 2]), np.array([1, 2], np.int32)), found, tail)
    >>> strata.neurons.tolist(), strata.n_labels.tolist()
    ([1, 2, 4, 0], [2])
    """
    n = len(labels.indptr) - 1
    if lone is None:
        lone = np.zeros(int(labels.neurons.max(initial=-1)) + 1, np.bool_)
    if found is None:
        found = Pairs(np.zeros(n + 1, np.int64), np.empty(0, np.int32))
    indptr, n_targets = np.zeros(n + 1, np.int64), np.zeros(n, np.int64)
    neurons = np.empty(len(labels.neurons) + len(found.neurons), np.int32)
    _join(labels, lone, found, indptr, n_targets, neurons)
    return Strata(indptr, neurons[: indptr[-1]], np.diff(labels.indptr), n_targets, *tail)


@njit(cache=True, nogil=True)
def _join(
    labels: Pairs,
    lone: NDArray[np.bool_],
    found: Pairs,
    indptr: NDArray[np.int64],
    n_targets: NDArray[np.int64],
    neurons: NDArray[np.int32],
) -> None:
    """Write targets, other labels and other found neurons of every example, packed as CSR."""
    place = 0
    for i in range(len(labels.indptr) - 1):
        own = labels.neurons[labels.indptr[i] : labels.indptr[i + 1]]
        for no_target in (False, True):
            for label in own:
                if lone[label] == no_target:
                    neurons[place] = label
                    place += 1
                    n_targets[i] += not no_target
        for neuron in found.neurons[found.indptr[i] : found.indptr[i + 1]]:
            at = np.searchsorted(own, neuron)
            if at == len(own) or own[at] != neuron:
                neurons[place] = neuron
                place += 1
        indptr[i + 1] = place
