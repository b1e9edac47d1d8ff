"""Losses on strata: logits of the active neurons -> loss, gradients, all in place.

An example's neurons fall into two strata. T holds its labels and the neurons that were retrieved
for it; all of them are active. U is a draw from all neurons, shared by the batch; a member stands
for 1 / p neurons, where p is how likely it was to be drawn. Sums over all N neurons are estimated
as the sum over T plus the weighted sum over what of U is not in T, which is unbiased whatever chose
T. If U holds all neurons, the weights are 1 and the loss is exact.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["LOSS_KINDS", "Strata", "mark_counted", "stratified_loss"]

_SOFTMAX, _BCE, _HINGE = 0, 1, 2
LOSS_KINDS = {"softmax": _SOFTMAX, "bce": _BCE, "hinge": _HINGE}


class Strata(NamedTuple):
    """The active neurons of a batch of n examples.

    Attributes
    ----------
    indptr : int64 array of shape (n + 1,)
        Pairs of example i: ``indptr[i]`` to ``indptr[i + 1]``; its labels come first.
    neurons : int32 array of shape (n_pairs,)
        Stratum T, distinct in an example.
    n_labels : int64 array of shape (n,)
        How many of an example's pairs are labels.
    n_targets : int64 array of shape (n,)
        How many of its labels, the first, are targets; the others do not count at all.
    shared : int32 array of shape (m,)
        Stratum U of every example, ascending; members that are in an example's T do not count.
    weights : float32 array of shape (m,)
        How many neurons each member of U stands for.
    """

    indptr: NDArray[np.int64]
    neurons: NDArray[np.int32]
    n_labels: NDArray[np.int64]
    n_targets: NDArray[np.int64]
    shared: NDArray[np.int32]
    weights: NDArray[np.float32]


@njit(cache=True, nogil=True)
def stratified_loss(
    kind: int,
    strata: Strata,
    pair_logits: NDArray[np.float32],
    shared_logits: NDArray[np.float32],
) -> float:
    """Turn logits (n_pairs,) and (n, m) into gradients of the summed loss, which is returned.

    Softmax: cross-entropy with the mean of an example's targets; its sum for BCE, squared hinge.
    """
    total = 0.0
    counted = np.empty(shared_logits.shape[1], np.bool_)
    for i in range(len(strata.indptr) - 1):
        start, end = strata.indptr[i], strata.indptr[i + 1]
        mark_counted(strata, start, end, counted)
        pairs, tail, n_targets = pair_logits[start:end], shared_logits[i], strata.n_targets[i]
        ignored = pairs[n_targets : strata.n_labels[i]]
        ignored[:] = -np.inf
        if kind == _SOFTMAX:
            total += _softmax(pairs, n_targets, tail, counted, strata.weights)
        else:
            total += _one_by_one(kind, pairs, n_targets, tail, counted, strata.weights)
        ignored[:] = 0
    return total


@njit(cache=True, nogil=True)
def mark_counted(strata: Strata, start: int, end: int, counted: NDArray[np.bool_]) -> None:
    """Mark the members of the shared tail (m,) that are not among the pairs start to end."""
    counted[:] = True
    for p in range(start, end):
        place = np.searchsorted(strata.shared, strata.neurons[p])
        if place < len(counted) and strata.shared[place] == strata.neurons[p]:
            counted[place] = False


@njit(cache=True, nogil=True)
def _softmax(
    pairs: NDArray[np.float32],
    n_targets: int,
    tail: NDArray[np.float32],
    counted: NDArray[np.bool_],
    weights: NDArray[np.float32],
) -> float:
    """Stratified softmax of one example: pairs (|T|,), tail (m,), both become gradients.

    An example without targets has no loss and no gradient.
    """
    if n_targets == 0:
        pairs[:] = 0
        tail[:] = 0
        return 0.0
    top = float(pairs[0])
    for p in range(1, len(pairs)):
        top = max(top, float(pairs[p]))
    for j in range(len(tail)):
        if counted[j]:
            top = max(top, float(tail[j]))
    mass, label_logits = 0.0, 0.0
    for p in range(n_targets):
        label_logits += float(pairs[p])
    for p in range(len(pairs)):
        pairs[p] = math.exp(pairs[p] - top)
        mass += pairs[p]
    for j in range(len(tail)):
        tail[j] = weights[j] * math.exp(tail[j] - top) if counted[j] else np.float32(0)
        mass += tail[j]
    for p in range(len(pairs)):
        pairs[p] /= mass
    for p in range(n_targets):
        pairs[p] -= np.float32(1) / np.float32(n_targets)
    for j in range(len(tail)):
        tail[j] /= mass
    return math.log(mass) + top - label_logits / n_targets


@njit(cache=True, nogil=True)
def _one_by_one(
    kind: int,
    pairs: NDArray[np.float32],
    n_targets: int,
    tail: NDArray[np.float32],
    counted: NDArray[np.bool_],
    weights: NDArray[np.float32],
) -> float:
    """BCE or squared hinge of one example: pairs (|T|,), tail (m,), both become gradients.

    Every neuron is a decision of its own: a label or not.
    """
    total = 0.0
    for p in range(len(pairs)):
        loss, pairs[p] = _decision(kind, pairs[p], p < n_targets)
        total += loss
    for j in range(len(tail)):
        loss, gradient = _decision(kind, tail[j], False)
        tail[j] = weights[j] * gradient if counted[j] else np.float32(0)
        total += float(weights[j]) * loss if counted[j] else 0.0
    return total


@njit(cache=True, nogil=True)
def _decision(kind: int, logit: np.float32, is_label: bool) -> tuple[float, np.float32]:
    """Loss and gradient of one neuron: BCE, or the squared hinge with a margin of 1."""
    sign = 1.0 if is_label else -1.0
    margin = sign * float(logit)
    if kind == _BCE:
        tail = math.exp(-abs(margin))
        miss = 1 / (1 + tail) if margin < 0 else tail / (1 + tail)
        return math.log1p(tail) + max(-margin, 0.0), np.float32(-sign * miss)
    short = max(1 - margin, 0.0)
    return short * short, np.float32(-2 * sign * short)
