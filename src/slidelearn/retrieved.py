"""Retrieved: the neurons that examples found, what is known of each, and the best of them."""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from slidelearn.heap import insert
from slidelearn.layers import Pairs
from slidelearn.memory import Votes, Worth
from slidelearn.postings import Found
from slidelearn.selecting import keep_largest

__all__ = [
    "Retrieved",
    "add_up",
    "drop_hopeless",
    "gather",
    "join",
    "keep_best",
    "keep_pairs",
    "take",
]


class Retrieved(NamedTuple):
    """The neurons that n examples retrieved, and all that speaks for and against them.

    Attributes
    ----------
    pairs : Pairs
        The neurons.
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
def gather(
    found: Found,
    more: Pairs,
    votes: Votes,
    head_rows: NDArray[np.int16],
    vote: float,
    scratch: NDArray[np.float32],
) -> tuple[Pairs, NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Gather every neuron of an example once, as found, and what it weighs by postings and votes.

    Those that postings did not find would have been if they weighed more than the least of these,
    which they get. Labels of the head, where ``head_rows`` (n_labels,), if any, has no -1, are left
    out. ``scratch`` is (n_labels,) or longer, zero before and after.

    Returns
    -------
    Pairs, and float32 arrays of shape (n_pairs,)
        The neurons, what they weigh, their shares of the votes, and their twins.

    Examples
    --------
    >>> of = lambda neuron: Pairs(np.array([0, 1]), np.full(1, neuron, np.int32))
    >>> ones = np.ones(1, np.float32)
    >>> votes = Votes(of(3), ones, ones)
    >>> heads, scratch = np.empty(0, np.int16), np.zeros(9, np.float32)
    >>> pairs, keys, _, _ = gather(Found(of(5), ones), of(5), votes, heads, 7.0, scratch)
    >>> pairs.neurons.tolist(), keys.tolist()
    ([5, 3], [1.0, 8.0])
    """
    n, most = len(more.indptr) - 1, len(found.weights) + len(more.neurons) + len(votes.shares)
    indptr, neurons = np.zeros(n + 1, np.int64), np.empty(most + 1, np.int32)
    keys, shares, twins = np.zeros((3, most + 1), np.float32)
    for i in range(n):
        start = at = indptr[i]
        least = np.float32(0)
        for p in range(found.pairs.indptr[i], found.pairs.indptr[i + 1]):
            neurons[at], keys[at] = found.pairs.neurons[p], found.weights[p]
            shares[at], twins[at] = 0, 0
            least = min(least, keys[at]) if at > start else keys[at]
            at += 1
            scratch[found.pairs.neurons[p]] = at - start
        for p in range(more.indptr[i], more.indptr[i + 1]):
            neuron = more.neurons[p]
            if scratch[neuron] == 0 and (len(head_rows) == 0 or head_rows[neuron] < 0):
                neurons[at], keys[at], shares[at], twins[at] = neuron, least, 0, 0
                at += 1
                scratch[neuron] = at - start
        for v in range(votes.pairs.indptr[i], votes.pairs.indptr[i + 1]):
            neuron = votes.pairs.neurons[v]
            if len(head_rows) > 0 and head_rows[neuron] >= 0:
                continue
            slot = np.int64(scratch[neuron])
            place = start + slot - 1 if slot > 0 else at
            known = keys[place] if slot > 0 else least
            neurons[place], keys[place] = neuron, known + np.float32(vote) * votes.shares[v]
            shares[place], twins[place] = votes.shares[v], votes.twins[v]
            scratch[neuron] = place - start + 1
            at += slot == 0
        for p in range(start, at):
            scratch[neurons[p]] = 0
        indptr[i + 1] = at
    size = indptr[-1]
    return Pairs(indptr, neurons[:size]), keys[:size], shares[:size], twins[:size]


@njit(cache=True, nogil=True)
def keep_pairs(
    pairs: Pairs, keys: NDArray[np.float32], limit: int
) -> tuple[Pairs, NDArray[np.int32]]:
    """Keep the pairs of the ``limit`` largest keys (n_pairs,) of every example, and their places.

    The first stays among equals.

    Examples
    --------
    >>> pairs = Pairs(np.array([0, 3]), np.array([4, 6, 9], np.int32))
    >>> kept, places = keep_pairs(pairs, np.array([1, 3, 2], np.float32), 2)
    >>> kept.neurons.tolist(), places.tolist()
    ([6, 9], [1, 2])
    """
    indptr, kept, longest = np.zeros(len(pairs.indptr), np.int64), np.empty(len(keys), np.int32), 0
    for i in range(len(pairs.indptr) - 1):
        longest = max(longest, pairs.indptr[i + 1] - pairs.indptr[i])
    own, places = np.empty(longest, np.float32), np.empty(longest, np.int32)
    for i in range(len(pairs.indptr) - 1):
        start, at = pairs.indptr[i], indptr[i]
        size = pairs.indptr[i + 1] - start
        for p in range(size):
            own[p], places[p] = keys[start + p], start + p
        size = keep_largest(own, places, size, limit)
        for p in range(size):
            kept[at + p] = places[p]
        indptr[i + 1] = at + size
    kept = kept[: indptr[-1]]
    return Pairs(indptr, pairs.neurons[kept]), kept


@njit(cache=True, nogil=True)
def drop_hopeless(
    pairs: Pairs,
    keys: NDArray[np.float32],
    places: NDArray[np.int32],
    others: Pairs,
    sums: NDArray[np.float32],
    best: int,
    slack: float,
) -> tuple[Pairs, NDArray[np.int32]]:
    """Keep pairs, and places of theirs, whose keys (n_pairs,) may be among an example's ``best``.

    They may if they are less than ``slack`` below the last of as many, which are the best by keys
    and the sums (n_others,) of other pairs.

    Examples
    --------
    >>> of = lambda *neurons: Pairs(np.array([0, len(neurons)]), np.array(neurons, np.int32))
    >>> keys, places = np.array([7, 1, 5], np.float32), np.arange(3, dtype=np.int32)
    >>> sums = np.array([6], np.float32)
    >>> kept, places = drop_hopeless(of(4, 6, 9), keys, places, of(3), sums, best=2, slack=2.0)
    >>> kept.neurons.tolist(), places.tolist()
    ([4, 9], [0, 2])
    """
    indptr, neurons = np.zeros(len(pairs.indptr), np.int64), pairs.neurons.copy()
    kept, top, at = places.copy(), np.empty(best, np.float32), 0
    for i in range(len(pairs.indptr) - 1):
        for t in range(best):
            top[t] = -np.inf
        for p in range(pairs.indptr[i], pairs.indptr[i + 1]):
            _enter(top, keys[p])
        for p in range(others.indptr[i], others.indptr[i + 1]):
            _enter(top, sums[p])
        for p in range(pairs.indptr[i], pairs.indptr[i + 1]):
            neurons[at], kept[at] = pairs.neurons[p], places[p]
            at += keys[p] >= top[0] - np.float32(slack)
        indptr[i + 1] = at
    return Pairs(indptr, neurons[:at]), kept[:at]


@njit(cache=True, nogil=True, forceinline=True)
def _enter(top: NDArray[np.float32], key: np.float32) -> None:
    """Let a key into the largest ones, ascending, if it exceeds the least of them.

    A heap for that counted references to its arrays 270 times an example.
    """
    if not key > top[0]:
        return
    place = 0
    while place + 1 < len(top) and key > top[place + 1]:
        top[place] = top[place + 1]
        place += 1
    top[place] = key


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
    ([7, 3], [7.0, 3.0], 2)
    """
    indptr, at = one.pairs.indptr + other.pairs.indptr, 0
    places, n_first = np.empty(indptr[-1], np.int32), len(one.pairs.neurons)
    for i in range(len(indptr) - 1):
        for p in range(one.pairs.indptr[i], one.pairs.indptr[i + 1]):
            places[at] = p
            at += 1
        for p in range(other.pairs.indptr[i], other.pairs.indptr[i + 1]):
            places[at] = n_first + p
            at += 1
    pairs = Pairs(indptr, np.concatenate((one.pairs.neurons, other.pairs.neurons))[places])
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
