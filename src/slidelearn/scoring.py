"""Scoring: what a network says of the neurons that an example found, in stages of growing cost.

The wide path's tables, the memory and the index name some hundred neurons. What the first two said
of them, with logits by coarse rows, decides which of them are looked up in the wide path and in the
margins, and what these add whose rows are read in full. Without coarse rows all logits are computed
at first.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from slidelearn.coarse_rows import CoarseRows
from slidelearn.cooccurrence import Cooccurrence, rank_again
from slidelearn.heap import insert
from slidelearn.hidden import Hidden, activations
from slidelearn.index import Lookup
from slidelearn.layers import Pairs, coarse_logits, pair_logits, small_logits
from slidelearn.margins import squared_hinges
from slidelearn.memory import Memory, Votes, Worth, find_votes, place_votes
from slidelearn.postings import Found, Postings, best_labels
from slidelearn.ranks import Ranks
from slidelearn.rows import BIAS_INPUT, Rows
from slidelearn.sampling import unite
from slidelearn.scratch import check_room
from slidelearn.selecting import keep_largest
from slidelearn.small_rows import SmallRows
from slidelearn.wide import Wide, add_pair_scores, find_hits

__all__ = [
    "Cut",
    "Known",
    "Neurons",
    "Retrieved",
    "Sparse",
    "add_up",
    "keep_best",
    "plain",
    "score",
]


class Cut(NamedTuple):
    """How many neurons of an example are left for each stage.

    Attributes
    ----------
    logits : int
        Those whose inner product with the hidden vector is computed, roughly where it can be.
    scores : int
        Those that the wide path and the margins are asked about.
    rows : int
        Those whose logits are computed again, by their rows in full.
    """

    logits: int
    scores: int
    rows: int


class Sparse(NamedTuple):
    """Weights of the margins, those of the wide path on the same features, and the margins' biases.

    What a network does not have is empty: another type would have to be compiled for.
    """

    margins: Wide
    wide: NDArray[np.float32]
    bias: NDArray[np.float32]
    ranks: Ranks


class Neurons(NamedTuple):
    """Rows of the output layer, in full or small, their biases, and coarse rows, if any."""

    rows: NDArray[np.float32]
    small: SmallRows | None
    bias: NDArray[np.float32]
    coarse: CoarseRows


class Known(NamedTuple):
    """All that a network knows of its output neurons and that speaks in predictions.

    ``hidden`` is its hidden layer, if a kernel can compute it.
    """

    hidden: Hidden | None
    postings: Postings
    memory: Memory | None
    output: Neurons
    sparse: Sparse | None
    worth: Worth
    margin: float


class Retrieved(NamedTuple):
    """The neurons that n examples retrieved, and all that speaks for and against them.

    Attributes
    ----------
    pairs : Pairs
        The neurons, ascending in an example.
    logits : float32 array of shape (n_pairs,)
        Of the network.
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
    hinges: NDArray[np.float32]
    shares: NDArray[np.float32]
    twins: NDArray[np.float32]
    active: int

    def scores(self, worth: Worth, margin: float) -> NDArray[np.float32]:
        """Sum them up, weighted: (n_pairs,)."""
        return add_up(self, worth, margin)


def plain(value: Any) -> Any:
    """Nested named tuples as plain ones, which Numba takes in a quarter of the time.

    It looks every class up; 65 values took it 19 us, and 5 in plain tuples.

    Examples
    --------
    >>> plain((Cut(1, 2, 3), None, 4))
    ((1, 2, 3), None, 4)
    """
    return tuple(map(plain, value)) if isinstance(value, tuple) else value


@njit(cache=True, nogil=True)
def score(
    known: tuple[Any, ...],
    asked: tuple[Any, ...],
    labels: NDArray[np.int64],
    scores: NDArray[np.float32],
) -> tuple[Any, ...]:
    """Score what was or is found, and what is voted for, as far as stages leave it.

    All in one function: to call each part from Python takes longer than what it does for one
    example.

    Parameters
    ----------
    known : tuple
        `Known`, as a `plain` tuple.
    asked : tuple
        Plain, too: examples (`Rows`); their hidden vectors, or None to compute the hidden layer
        here; what the postings say (`Found`) and what more the index found (`Pairs`), or None to
        look into the postings here; how much these may find (`Lookup`); the `Cut`; and scratch.
    labels, scores : arrays of shape (n, k)
        -1 and -inf; the best fill them, ranked by their company.

    Returns
    -------
    tuple
        `Retrieved`, plain.
    """
    hidden, postings, memory, (rows, small, bias, coarse), sparse, worth, margin = known
    x_parts, h_parts, found_parts, size, (n_logits, n_scores, n_rows), scratch = asked
    x = Rows(*x_parts)
    check_room(scratch, len(bias))
    h = _hidden(h_parts, x, hidden)
    found, more = _found(found_parts, x, Postings(*postings), Lookup(*size), scratch)
    votes = _votes(x, memory, scratch)
    pairs = unite((found.pairs, more, votes.pairs))
    shares, twins = place_votes(votes, pairs)
    keys = np.float32(worth[0]) * shares
    _add_found(found, pairs, scratch, keys)
    pairs, places = _keep(pairs, keys, n_logits)
    shares, twins, keys = shares[places], twins[places], keys[places]
    active = len(places)
    logits = np.empty(active, np.float32)
    coarse_rows = CoarseRows(*coarse)
    roughly = len(coarse_rows.scales) > 0 and labels.shape[1] > 0
    if roughly:
        coarse_logits(h, coarse_rows, bias, pairs, logits)
    else:
        _score_rows(h, rows, small, pairs, logits)
    _add_logits(found, pairs, logits, bias, keys)
    pairs, places = _keep(pairs, keys, n_scores)
    shares, twins, logits = shares[places], twins[places], logits[places]
    wide, hinges = np.zeros(len(places), np.float32), np.zeros(len(places), np.float32)
    _add_sparse(x, sparse, pairs, scratch, wide, hinges)
    scored = Retrieved(pairs, logits + wide, hinges, shares, twins, active)
    if roughly:
        pairs, places = _keep(pairs, add_up(scored, Worth(*worth), margin), n_rows)
        logits = np.empty(len(places), np.float32)
        _score_rows(h, rows, small, pairs, logits)
        logits += wide[places]
        scored = Retrieved(pairs, logits, hinges[places], shares[places], twins[places], active)
    if labels.shape[1] > 0:
        keep_best(pairs, add_up(scored, Worth(*worth), margin), labels, scores)
        _rank_again(memory, labels, scores, scratch)
    pairs, logits, hinges, shares, twins, active = scored
    return (pairs.indptr, pairs.neurons), logits, hinges, shares, twins, active


@njit(cache=True, nogil=True, forceinline=True)
def _hidden(h: tuple[Any, ...] | None, x: Rows, hidden: tuple[Any, ...] | None) -> Rows:
    """The hidden vectors of examples: those that came, or what the hidden layer makes of x."""
    if h is None:
        assert hidden is not None
        return activations(x, Hidden(*hidden))
    return Rows(*h)


@njit(cache=True, nogil=True)
def _found(
    found: tuple[Any, ...] | None,
    x: Rows,
    postings: Postings,
    size: Lookup,
    scratch: NDArray[np.float32],
) -> tuple[Found, Pairs]:
    """What was found by postings, and what more by the index, or what postings say now."""
    if found is None:
        few, cap = size.few, size.wide_cap
        more = Pairs(np.zeros(len(x.indptr), np.int64), np.empty(0, np.int32))
        return best_labels(x, postings, size.wide_limit, x.width, scratch, few, cap), more
    (pairs, weights), more_pairs = found
    return Found(Pairs(*pairs), weights), Pairs(*more_pairs)


@njit(cache=True, nogil=True)
def _votes(x: Rows, memory: tuple[Any, ...] | None, scratch: NDArray[np.float32]) -> Votes:
    """Votes of the memory, or none."""
    if memory is None:
        indptr = np.zeros(len(x.indptr), np.int64)
        nothing = np.empty(0, np.float32)
        return Votes(Pairs(indptr, np.empty(0, np.int32)), nothing, nothing)
    return find_votes(_memory(memory), x, scratch)


@njit(cache=True, nogil=True)
def _memory(parts: tuple[Any, ...]) -> Memory:
    """Name the parts of a memory again."""
    examples, labels, tables, n_labels, limit, probes, worth, (partners, shares, strength) = parts
    together = Cooccurrence(Pairs(*partners), shares, strength)
    postings, pairs = Postings(*tables), Pairs(*labels)
    return Memory(
        Wide(*examples), pairs, postings, n_labels, limit, probes, Worth(*worth), together
    )


@njit(cache=True, nogil=True)
def _add_sparse(
    x: Rows,
    sparse: tuple[Any, ...] | None,
    pairs: Pairs,
    scratch: NDArray[np.float32],
    scores: NDArray[np.float32],
    hinges: NDArray[np.float32],
) -> None:
    """Add wide scores of pairs to scores, and squared hinges of margins to hinges, (n_pairs,).

    Both paths have the same features, so these are looked up once.
    """
    if sparse is None:
        return
    margins, weights, bias, ranks = sparse
    path = Wide(*margins)
    hits = find_hits(x, path, pairs, scratch, Ranks(*ranks))
    if len(weights) > 0:
        wide = Wide(path.indptr, path.features, weights, path.squares)
        add_pair_scores(wide, hits, scores)
    if len(bias) > 0:
        for p in range(len(hinges)):
            hinges[p] = bias[pairs.neurons[p]]
        add_pair_scores(path, hits, hinges)
        squared_hinges(hinges)


@njit(cache=True, nogil=True, forceinline=True)
def _score_rows(
    h: Rows,
    rows: NDArray[np.float32],
    small: tuple[Any, ...] | None,
    pairs: Pairs,
    logits: NDArray[np.float32],
) -> None:
    """Compute logits (n_pairs,) from rows, or from small ones; Numba compiles what there is."""
    if small is None:
        pair_logits(h, rows, pairs, logits)
    else:
        small_logits(h, SmallRows(*small), pairs, logits)


@njit(cache=True, nogil=True)
def _add_found(
    found: Found, pairs: Pairs, scratch: NDArray[np.float32], keys: NDArray[np.float32]
) -> None:
    """Add what found neurons weigh to the keys of pairs (n_pairs,), which hold all of them.

    The others would have been found if they weighed more than the least of these, which they get.
    """
    for i in range(len(pairs.indptr) - 1):
        start, end = found.pairs.indptr[i], found.pairs.indptr[i + 1]
        if start == end:
            continue
        least = found.weights[start:end].min()
        for p in range(start, end):
            scratch[found.pairs.neurons[p]] = found.weights[p] - least
        for p in range(pairs.indptr[i], pairs.indptr[i + 1]):
            keys[p] += least + scratch[pairs.neurons[p]]
        for p in range(start, end):
            scratch[found.pairs.neurons[p]] = 0


@njit(cache=True, nogil=True)
def _add_logits(
    found: Found,
    pairs: Pairs,
    logits: NDArray[np.float32],
    bias: NDArray[np.float32],
    keys: NDArray[np.float32],
) -> None:
    """Add logits to the keys of pairs, both (n_pairs,); the bias, if both hold it, only once."""
    for i in range(len(pairs.indptr) - 1):
        twice = found.pairs.indptr[i + 1] > found.pairs.indptr[i]
        for p in range(pairs.indptr[i], pairs.indptr[i + 1]):
            own = BIAS_INPUT * bias[pairs.neurons[p]] if twice else np.float32(0)
            keys[p] += logits[p] - own


@njit(cache=True, nogil=True)
def _keep(pairs: Pairs, keys: NDArray[np.float32], limit: int) -> tuple[Pairs, NDArray[np.int32]]:
    """Keep the pairs of the ``limit`` largest keys (n_pairs,) of every example, and their places.

    The smaller id stays among equals.
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
def add_up(found: Retrieved, worth: Worth, margin: float) -> NDArray[np.float32]:
    """Scores of all pairs, (n_pairs,): logits, shares of votes, twins and hinges, weighted."""
    scores = found.logits + np.float32(worth.vote) * found.shares
    scores -= np.float32(worth.twin) * found.twins + np.float32(margin) * found.hinges
    return scores


@njit(cache=True, nogil=True)
def _rank_again(
    memory: tuple[Any, ...] | None,
    labels: NDArray[np.int64],
    scores: NDArray[np.float32],
    scratch: NDArray[np.float32],
) -> None:
    """Rank the best, labels and scores (n, k), by the company that a memory knows."""
    if memory is not None:
        together = _memory(memory).cooccurrence
        if together.strength > 0:
            rank_again(together, labels, scores, scratch)


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
