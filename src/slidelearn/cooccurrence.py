"""Co-occurrence: the best labels of an example are ranked again by those that keep them company.

The network scores every label on its own. Here the likely labels of an example, its best ones by
softmax, speak for those that they occurred with in training. On validation parts that raised P@1,
P@3 and P@5 on commits from 58.7, 32.8 and 23.6 to 58.9, 33.0 and 23.8, and P@5 on the calls from
31.7 to 31.9; all pairs of labels, instead of the 20 most frequent of each, gained as much.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from slidelearn.heap import insert, offer
from slidelearn.layers import Pairs, examples_of, pairs_of
from slidelearn.scratch import check_room, zeros

__all__ = ["CANDIDATES", "PARTNERS", "Cooccurrence", "count_cooccurrence", "rank_again"]

CANDIDATES = 20  # best labels of an example that are ranked again; 10 and 60 gain as much
PARTNERS = 20  # of a label, at most
_LABELS = 50  # of an example, at most: longer lists are counted at a high price and say little
_DOUBT = 3.0  # examples by which a label seems more frequent than it is
_FLOOR = 0.01  # chance at which a partner's gain begins to grow with its logarithm
_UNLIKELY = 1e-4  # labels less likely than that speak for nobody


class Cooccurrence(NamedTuple):
    """Which labels occur together.

    Attributes
    ----------
    partners : Pairs
        For every label those that it occurs with most often.
    shares : float32 array of shape (n_partners,)
        In which share of the label's examples.
    strength : float
        What a label's logit gains for each unit of the logarithm of 1 + 100 times its chance, as
        its company has it; 0 if company does not count.
    """

    partners: Pairs
    shares: NDArray[np.float32]
    strength: float


def count_cooccurrence(Y: csr_matrix, strength: float) -> Cooccurrence:
    """Count how often labels Y (n, l) occur together; nothing is counted for a strength of 0.

    Without two labels in any example the strength becomes 0.

    Examples
    --------
    >>> found = count_cooccurrence(csr_matrix([[1, 1, 0], [1, 0, 0]]), 1.0)
    >>> found.partners.neurons.tolist(), [round(s, 2) for s in found.shares.tolist()]
    ([1, 0], [0.2, 0.25])
    """
    labels, n_labels = pairs_of(Y), Y.shape[1]
    if strength == 0:
        nobody = Pairs(np.zeros(n_labels + 1, np.int64), np.empty(0, np.int32))
        return Cooccurrence(nobody, np.empty(0, np.float32), 0.0)
    most = np.zeros(n_labels + 1, np.int64)
    _bound(labels, most[1:])
    np.minimum(most, PARTNERS, out=most)
    indptr = np.cumsum(most)
    partners, shares = np.empty(indptr[-1], np.int32), np.zeros(indptr[-1], np.float32)
    sizes = np.zeros(n_labels + 1, np.int64)
    _count(examples_of(Y), labels, zeros(n_labels), indptr, sizes[1:], partners, shares)
    kept = shares > 0
    strength = strength if kept.any() else 0.0
    return Cooccurrence(Pairs(np.cumsum(sizes), partners[kept]), shares[kept], strength)


@njit(cache=True, nogil=True)
def _bound(labels: Pairs, most: NDArray[np.int64]) -> None:
    """Count the others beside every label, with repeats: at least as many as its partners."""
    for i in range(len(labels.indptr) - 1):
        own = labels.neurons[labels.indptr[i] : labels.indptr[i + 1]]
        if len(own) <= _LABELS:
            for label in own:
                most[label] += len(own) - 1


@njit(cache=True, nogil=True)
def _count(
    examples: Pairs,
    labels: Pairs,
    counts: NDArray[np.float32],
    indptr: NDArray[np.int64],
    sizes: NDArray[np.int64],
    partners: NDArray[np.int32],
    shares: NDArray[np.float32],
) -> None:
    """Keep the most frequent partners of every label, sizes (l,), from its examples and theirs.

    ``counts`` is scratch (l,), zero before and after.
    """
    for label in range(len(sizes)):
        own = examples.neurons[examples.indptr[label] : examples.indptr[label + 1]]
        start, end = indptr[label], indptr[label + 1]
        for given in (True, False):
            for i in own:
                others = labels.neurons[labels.indptr[i] : labels.indptr[i + 1]]
                if len(others) > _LABELS:
                    continue
                for other in others:
                    if other == label:
                        continue
                    if given:
                        counts[other] += 1
                    elif counts[other]:
                        share = np.float32(counts[other] / (len(own) + _DOUBT))
                        sizes[label] = offer(
                            shares[start:end],
                            partners[start:end],
                            sizes[label],
                            share,
                            np.int64(other),
                        )
                        counts[other] = 0


@njit(cache=True, nogil=True)
def rank_again(
    cooccurrence: Cooccurrence,
    labels: NDArray[np.int64],
    scores: NDArray[np.float32],
    scratch: NDArray[np.float32],
) -> None:
    """Let the first `CANDIDATES` labels, (n, k), -1 for none, gain by their company, in place.

    They come best first again, the smaller id among equals. ``scratch`` is (n_labels,) or longer,
    zero before and after.

    Examples
    --------
    >>> found = count_cooccurrence(csr_matrix([[1, 0, 1], [0, 1, 0]]), 1.0)
    >>> labels, scores = np.array([[0, 1, 2]]), np.array([[2, 1, 0.5]], np.float32)
    >>> rank_again(found, labels, scores, zeros(3))
    >>> labels.tolist()
    [[0, 2, 1]]
    """
    check_room(scratch, len(cooccurrence.partners.indptr) - 1)
    size = min(labels.shape[1], CANDIDATES)
    before, gained = np.empty(size, np.int64), np.empty(size, np.float32)
    for i in range(len(labels)):
        own, own_scores = labels[i, :size], scores[i, :size]
        for a in range(size):
            before[a], gained[a] = own[a], own_scores[a]
        _add_gains(cooccurrence, own, own_scores, scratch, gained)
        for a in range(size):
            own[a], own_scores[a] = -1, -np.inf
        for a in range(size):
            if before[a] >= 0:
                insert(own, own_scores, before[a], gained[a])


@njit(cache=True, nogil=True)
def _add_gains(
    cooccurrence: Cooccurrence,
    labels: NDArray[np.int64],
    scores: NDArray[np.float32],
    chances: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Add to ``out`` (t,) what the softmax of scores (t,) and the partners of labels (t,) say.

    ``chances`` is scratch (n_labels,) or longer, zero before and after.
    """
    indptr, partners = cooccurrence.partners
    top, total, likely = -np.inf, 0.0, np.zeros(len(labels))
    for a in range(len(labels)):
        top = max(top, scores[a])
    for a in range(len(labels)):
        if labels[a] >= 0:
            likely[a] = math.exp(scores[a] - top)
            total += likely[a]
    for adding in (True, False):
        for a in range(len(labels)):
            label, chance = labels[a], likely[a] / total if likely[a] > 0 else 0.0
            if chance < _UNLIKELY:
                continue
            for q in range(indptr[label], indptr[label + 1]):
                if adding:
                    chances[partners[q]] += np.float32(chance) * cooccurrence.shares[q]
                else:
                    chances[partners[q]] = 0
        if adding:
            for a in range(len(labels)):
                if labels[a] >= 0:
                    gain = math.log1p(chances[labels[a]] / _FLOOR)
                    out[a] += np.float32(cooccurrence.strength * gain)
