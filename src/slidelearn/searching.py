"""Searching: the neurons that may be an example's best, scored in stages of growing cost.

The wide path's tables, the memory and the index name 100 to 200 neurons. What the first two said of
them decides whose logits are computed, and these decide which neurons are looked up in the
wide path and in the margins, which takes longest.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from slidelearn.cooccurrence import Cooccurrence, rank_again
from slidelearn.heap import insert, offer
from slidelearn.index import Lookup
from slidelearn.layers import Pairs, pair_logits, small_logits
from slidelearn.margins import squared_hinges
from slidelearn.memory import Votes, add_pair_votes, find_votes, room_for_votes
from slidelearn.network import Network, find_labels, hidden_rows
from slidelearn.postings import Found
from slidelearn.rows import BIAS_INPUT, Rows, sparse_rows
from slidelearn.sampling import unite
from slidelearn.scratch import check_room, zeros
from slidelearn.small_rows import SmallRows
from slidelearn.wide import Wide, add_pair_scores, find_hits

__all__ = ["ALL", "Cut", "Retrieved", "keep_best", "room", "score_retrieved", "search", "strengths"]


class Cut(NamedTuple):
    """How many neurons of an example are left for each stage.

    Attributes
    ----------
    logits : int
        Those whose inner product with the hidden vector is computed.
    scores : int
        Those that the wide path and the margins are asked about.
    """

    logits: int
    scores: int


ALL = Cut(2**31 - 1, 2**31 - 1)
_NOTHING = np.empty(0, np.float32)


class _Sparse(NamedTuple):
    """Weights of the margins, those of the wide path on the same features, and the margins' biases.

    What a network does not have is empty: another type would have to be compiled for.
    """

    margins: Wide
    wide: NDArray[np.float32]
    bias: NDArray[np.float32]


class _Neurons(NamedTuple):
    """Rows of the output layer, in full or small, and their biases."""

    rows: NDArray[np.float32]
    small: SmallRows | None
    bias: NDArray[np.float32]


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
    active : int
        Neurons whose logits were computed.
    """

    pairs: Pairs
    logits: NDArray[np.float32]
    hinges: NDArray[np.float32]
    shares: NDArray[np.float32]
    active: int

    def scores(self, vote: float, margin: float) -> NDArray[np.float32]:
        """Sum them up, weighted: (n_pairs,)."""
        return _add_up(self, vote, margin)


def strengths(network: Network) -> tuple[float, float]:
    """How much votes and margins weigh in predictions."""
    memory, margins = network.memory, network.margins
    return (
        0.0 if memory is None else memory.strength,
        0.0 if margins is None else margins.strength,
    )


def room(network: Network) -> NDArray[np.float32]:
    """Scratch for whatever is asked of an example, of zeros."""
    most = max(network.n_features, network.n_labels)
    return zeros(most) if network.memory is None else room_for_votes(network.memory)


def score_retrieved(network: Network, X: csr_matrix) -> Retrieved:
    """Score all neurons that are found for examples X (n, d), by all that speaks on them."""
    return _find_and_score(network, X, ALL)


def search(
    network: Network,
    X: csr_matrix,
    labels: NDArray[np.int64],
    scores: NDArray[np.float32],
    scale: float = 1.0,
) -> int:
    """Find the best neurons of examples X (n, d).

    Parameters
    ----------
    network : Network
        With tables on its output layer.
    X : csr_matrix of shape (n, d)
        Features, scaled as in training.
    labels, scores : int64 and float32 arrays of shape (n, k)
        -1 and -inf; they are filled with the best, as far as so many were found.
    scale : float
        Times as many neurons as the settings say may be found, and be left by each stage. Above 1,
        the labels of the largest biases are always among them: with 4, the recall@5 of calls is
        0.98 and not 0.97. At 1 they would cost 0.1 of P@5 there: what an exact scan finds more
        than a search is no better.

    Returns
    -------
    int
        Neurons whose logits were computed.
    """
    index, memory, k = network.indexes[-1], network.memory, labels.shape[1]
    assert index is not None
    config = index.config
    sizes = (config.predict_logits, config.predict_scores)
    cut = Cut(*(max(_scaled(size, scale), k) for size in sizes))
    if network.postings is None:  # which alone say something before logits are computed
        cut = cut._replace(logits=ALL.logits)
    found = _find_and_score(network, X, cut, scale)
    together = None if memory is None else memory.cooccurrence
    _rank(found, *strengths(network), together, room(network), labels, scores)
    return found.active


def _scaled(size: int, scale: float) -> int:
    """A size times a scale, at least 1."""
    return max(1, math.ceil(size * scale))


def _find_and_score(network: Network, X: csr_matrix, cut: Cut, scale: float = 1.0) -> Retrieved:
    """Look examples X (n, d) up and score what ``cut`` leaves of what is found."""
    x = sparse_rows(X)
    h = hidden_rows(network, x)
    index, memory, scratch = network.indexes[-1], network.memory, room(network)
    assert index is not None
    size = Lookup(*(_scaled(part, scale) for part in index.predict_size))
    if scale > 1:  # what goes further than usual finds the usual labels always
        size = size._replace(few=ALL.logits)
    found, more = find_labels(network, x, h, size)
    if memory is None:
        votes = Votes(Pairs(np.zeros(x.n + 1, np.int64), np.empty(0, np.int32)), _NOTHING)
    else:
        votes = find_votes(memory, x, scratch)
    vote, _ = strengths(network)
    output = network.output
    neurons, sparse = _Neurons(output.weight, output.small, output.bias), _sparse_scores(network)
    return Retrieved(*_score_found(x, h, found, more, votes, neurons, sparse, vote, cut, scratch))


def _sparse_scores(network: Network) -> _Sparse | None:
    """What wide path and margins weigh, as far as the network has them."""
    wide, margins = network.wide, network.margins
    if margins is not None:
        weights = _NOTHING if wide is None else wide.weights
        return _Sparse(margins.path, weights, margins.bias)
    if wide is None:
        return None
    return _Sparse(wide._replace(weights=_NOTHING), wide.weights, _NOTHING)


@njit(cache=True, nogil=True)
def _score_found(
    x: Rows,
    h: Rows,
    found: Found,
    more: Pairs,
    votes: Votes,
    output: _Neurons,
    sparse: _Sparse | None,
    vote: float,
    cut: Cut,
    scratch: NDArray[np.float32],
) -> Retrieved:
    """Score what was found, ``more``, and what is voted for, as far as stages leave it.

    All in one function: to call each part from Python takes longer than what it does for one
    example. Wide path and margins have the same features, so these are looked up once.
    """
    check_room(scratch, len(output.bias))
    pairs = unite(unite(found.pairs, more), votes.pairs)
    shares = np.zeros(len(pairs.neurons), np.float32)
    add_pair_votes(votes, pairs, shares)
    keys = np.float32(vote) * shares
    _add_found(found, pairs, scratch, keys)
    pairs, places = _keep(pairs, keys, cut.logits)
    shares, keys = shares[places], keys[places]
    active = len(places)
    logits = np.empty(active, np.float32)
    _score_rows(h, output.rows, output.small, pairs, logits)
    _add_logits(found, pairs, logits, output.bias, keys)
    pairs, places = _keep(pairs, keys, cut.scores)
    shares, logits = shares[places], logits[places]
    hinges = np.zeros(len(places), np.float32)
    if sparse is not None:
        path = sparse.margins
        hits = find_hits(x, path, pairs, scratch)
        if len(sparse.wide) > 0:
            wide = Wide(path.indptr, path.features, sparse.wide, path.squares)
            add_pair_scores(wide, hits, logits)
        if len(sparse.bias) > 0:
            for p in range(len(places)):
                hinges[p] = sparse.bias[pairs.neurons[p]]
            add_pair_scores(path, hits, hinges)
            squared_hinges(hinges)
    return Retrieved(pairs, logits, hinges, shares, active)


@njit(cache=True, nogil=True, forceinline=True)
def _score_rows(
    h: Rows,
    rows: NDArray[np.float32],
    small: SmallRows | None,
    pairs: Pairs,
    logits: NDArray[np.float32],
) -> None:
    """Compute logits (n_pairs,) from rows, or from small ones; Numba compiles what there is."""
    if small is None:
        pair_logits(h, rows, pairs, logits)
    else:
        small_logits(h, small, pairs, logits)


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
def _keep(pairs: Pairs, keys: NDArray[np.float32], limit: int) -> tuple[Pairs, NDArray[np.int64]]:
    """Keep the pairs of the ``limit`` largest keys (n_pairs,) of every example, and their places.

    The smaller id stays among equals.
    """
    indptr, places = np.zeros(len(pairs.indptr), np.int64), np.empty(len(keys), np.int64)
    most = 0
    for i in range(len(pairs.indptr) - 1):
        most = max(most, pairs.indptr[i + 1] - pairs.indptr[i])
    size = min(limit, most)
    best, chosen = np.empty(size, np.float32), np.empty(size, np.int32)
    for i in range(len(pairs.indptr) - 1):
        start, end, at = pairs.indptr[i], pairs.indptr[i + 1], indptr[i]
        kept = np.int64(end - start)
        if kept <= limit:
            for j in range(kept):
                places[at + j] = start + j
        else:
            kept = np.int64(0)
            for p in range(start, end):
                kept = offer(best, chosen, kept, keys[p], p - start)
            chosen.sort()
            for j in range(kept):
                places[at + j] = start + chosen[j]
        indptr[i + 1] = at + kept
    places = places[: indptr[-1]]
    return Pairs(indptr, pairs.neurons[places]), places


@njit(cache=True, nogil=True)
def _add_up(found: Retrieved, vote: float, margin: float) -> NDArray[np.float32]:
    """Scores of all pairs, (n_pairs,): logits, shares of votes and hinges, weighted."""
    scores = found.logits + np.float32(vote) * found.shares
    scores -= np.float32(margin) * found.hinges
    return scores


@njit(cache=True, nogil=True)
def _rank(
    found: Retrieved,
    vote: float,
    margin: float,
    together: Cooccurrence | None,
    scratch: NDArray[np.float32],
    labels: NDArray[np.int64],
    scores: NDArray[np.float32],
) -> None:
    """Keep the best k of every example, labels and scores (n, k), and rank them by company."""
    keep_best(found.pairs, _add_up(found, vote, margin), labels, scores)
    if together is not None:  # noqa: SIM102 - as one condition, Numba compiles it for None, too
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
