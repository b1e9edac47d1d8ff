"""Retrieved: the neurons that examples found, what is known of each, and the best of them."""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from slidelearn.heap import insert
from slidelearn.layers import Pairs
from slidelearn.memory import Worth
from slidelearn.selecting import keep_largest

__all__ = ["Retrieved", "add_up", "join", "keep_best", "keep_pairs", "take"]


class Retrieved(NamedTuple):
    """The neurons that n examples retrieved, and all that speaks for and against them.

    Attributes
    ----------
    pairs : Pairs
        The neurons, ascending in an example.
    logits : float32 array of shape (n_pairs,)
        Of the output layer.
    wide : float32 array of shape (n_pairs,)
        What the wide path adds to them.
    hinges : float32 array of shape (n_pairs,)
        Squared hinges of the margins.
    shares : float32 array of shape (n_pairs,)
        Shares of the votes.
    twins : float32 array of shape (n_pairs,)
        How nearly one of the neuron's training examples is the same; see `Votes`.
    active : int
        Neurons whose logits were computed.
    """

    pairs: Pairs
    logits: NDArray[np.float32]
    wide: NDArray[np.float32]
    hinges: NDArray[np.float32]
    shares: NDArray[np.float32]
    twins: NDArray[np.float32]
    active: int

    def scores(self, worth: Worth, margin: float) -> NDArray[np.float32]:
        """Sum them up, weighted: (n_pairs,)."""
        return add_up(self, worth, margin)


@njit(cache=True, nogil=True)
def add_up(found: Retrieved, worth: Worth, margin: float) -> NDArray[np.float32]:
    """Scores of all pairs, (n_pairs,): logits, shares of votes, twins and hinges, weighted."""
    scores = found.logits + found.wide + np.float32(worth.vote) * found.shares
    scores -= np.float32(worth.twin) * found.twins + np.float32(margin) * found.hinges
    return scores


@njit(cache=True, nogil=True)
def keep_pairs(
    pairs: Pairs, keys: NDArray[np.float32], limit: int
) -> tuple[Pairs, NDArray[np.int32]]:
    """Keep the pairs of the ``limit`` largest keys (n_pairs,) of every example, and their places.

    The smaller id stays among equals.

    Examples
    --------
    >>> pairs = Pairs(np.array([0, 3]), np.array([4, 6, 9], np.int32))
    >>> kept, places = keep_pairs(pairs, np.array([1, 3, 2], np.float32), 2)
    >>> kept.neurons.tolist(), places.tolist()
    ([6, 9], [1, 2])
    """
    indptr, left = np.zeros(len(pairs.indptr), np.int64), keys.copy()
    places = np.arange(len(keys)).astype(np.int32)
    for i in range(len(pairs.indptr) - 1):
        start, end, at = pairs.indptr[i], pairs.indptr[i + 1], indptr[i]
        kept = keep_largest(left[start:end], places[start:end], limit)
        for p in range(kept):
            places[at + p] = places[start + p]
        indptr[i + 1] = at + kept
    places = places[: indptr[-1]]
    return Pairs(indptr, pairs.neurons[places]), places


@njit(cache=True, nogil=True)
def take(found: Retrieved, pairs: Pairs, places: NDArray[np.int32]) -> Retrieved:
    """What is known of some pairs, at these places."""
    return Retrieved(
        pairs,
        found.logits[places],
        found.wide[places],
        found.hinges[places],
        found.shares[places],
        found.twins[places],
        found.active,
    )


@njit(cache=True, nogil=True)
def join(one: Retrieved, other: Retrieved) -> Retrieved:
    """Join what two have found for the same examples, and no neuron for the same one.

    Examples
    --------
    >>> def of(neuron):
    ...     pairs = Pairs(np.array([0, 1]), np.full(1, neuron, np.int32))
    ...     return Retrieved(pairs, *[np.full(1, neuron, np.float32)] * 5, 1)
    >>> both = join(of(7), of(3))
    >>> both.pairs.neurons.tolist(), both.logits.tolist(), both.active
    ([3, 7], [3.0, 7.0], 2)
    """
    pairs, places = _merge(one.pairs, other.pairs)
    both = Retrieved(
        pairs,
        np.concatenate((one.logits, other.logits)),
        np.concatenate((one.wide, other.wide)),
        np.concatenate((one.hinges, other.hinges)),
        np.concatenate((one.shares, other.shares)),
        np.concatenate((one.twins, other.twins)),
        one.active + other.active,
    )
    return take(both, pairs, places)


@njit(cache=True, nogil=True)
def _merge(one: Pairs, other: Pairs) -> tuple[Pairs, NDArray[np.int32]]:
    """Merge ascending neurons, and the place of each, where the others come after the first."""
    size, n_first = len(one.neurons) + len(other.neurons), len(one.neurons)
    neurons, places = np.empty(size, np.int32), np.empty(size, np.int32)
    indptr, at = one.indptr + other.indptr, 0
    for i in range(len(indptr) - 1):
        p, q = one.indptr[i], other.indptr[i]
        while at < indptr[i + 1]:
            first = q == other.indptr[i + 1] or (
                p < one.indptr[i + 1] and one.neurons[p] < other.neurons[q]
            )
            neurons[at] = one.neurons[p] if first else other.neurons[q]
            places[at] = p if first else n_first + q
            p, q, at = p + first, q + (not first), at + 1
    return Pairs(indptr, neurons), places


@njit(cache=True, nogil=True)
def keep_best(
    pairs: Pairs,
    logits: NDArray[np.float32],
    labels: NDArray[np.int64],
    scores: NDArray[np.float32],
) -> None:
    """Keep the best k of every example's pairs: labels, scores (n, k), which start at -1, -inf.

    Labels come best first, the smaller id among equals.
    """
    k = labels.shape[1]
    for i in range(labels.shape[0]):
        for p in range(pairs.indptr[i], pairs.indptr[i + 1]):
            n, score, last = pairs.neurons[p], logits[p], scores[i, k - 1]
            better = score > last or (score == last and n < labels[i, k - 1])
            if labels[i, k - 1] < 0 or better:
                insert(labels[i], scores[i], n, score)
