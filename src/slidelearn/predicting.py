"""Predicting: the top k labels of examples, by scoring every neuron or only retrieved ones."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from slidelearn.cooccurrence import CANDIDATES, Cooccurrence, rank_again
from slidelearn.layers import Pairs, pair_logits
from slidelearn.margins import squared_hinges
from slidelearn.memory import add_block_votes, add_pair_votes, find_votes
from slidelearn.network import Network, hidden_rows, retrieve_labels
from slidelearn.rows import Rows, product, sparse_rows
from slidelearn.sampling import unite
from slidelearn.wide import add_block_scores, add_pair_scores, columns_of, find_hits
from slidelearn.workers import PIECE, Workers, pieces

__all__ = ["Retrieved", "TopK", "all_scores", "keep_best", "predict_topk", "score_retrieved"]

_EXAMPLES, _LABELS = 256, 5000  # whose logits one thread holds at a time in an exact scan, 5 MB


class TopK(NamedTuple):
    """The best labels of n examples.

    Attributes
    ----------
    labels : int64 array of shape (n, k)
        Best first, the smaller id among equals; -1 where fewer neurons were retrieved.
    scores : float32 array of shape (n, k)
        Their logits; -inf beside -1.
    active : int
        Output neurons computed, over all examples.
    """

    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    active: int


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
    """

    pairs: Pairs
    logits: NDArray[np.float32]
    hinges: NDArray[np.float32]
    shares: NDArray[np.float32]

    def scores(self, vote: float, margin: float) -> NDArray[np.float32]:
        """Sum them up, weighted: (n_pairs,)."""
        scores = self.logits + np.float32(vote) * self.shares
        scores -= np.float32(margin) * self.hinges
        return scores


def _strengths(network: Network) -> tuple[float, float]:
    """How much votes and margins weigh in predictions."""
    memory, margins = network.memory, network.margins
    return (
        0.0 if memory is None else memory.strength,
        0.0 if margins is None else margins.strength,
    )


def _cooccurrence(network: Network) -> Cooccurrence | None:
    """What the best labels are ranked again by, if anything."""
    return None if network.memory is None else network.memory.cooccurrence


def predict_topk(network: Network, X: csr_matrix, k: int, *, exact: bool, workers: Workers) -> TopK:
    """Find the k best labels of every example X (n, d), a canonical float32 matrix.

    Parameters
    ----------
    network : Network
        A trained network.
    X : csr_matrix of shape (n, d)
        Features, scaled as in training.
    k : int
        Labels per example.
    exact : bool
        Score every output neuron. Otherwise only those that the tables retrieve; a network
        whose neurons are all active in training has no tables and is always scored in full.
    workers : Workers
        Threads.
    """
    n, together = X.shape[0], _cooccurrence(network)
    width = k if together is None else max(k, CANDIDATES)
    labels = np.full((n, width), -1, np.int64)
    scores = np.full((n, width), -np.inf, np.float32)
    vote, margin = _strengths(network)

    def scan(start: int, end: int) -> int:
        for first, logits in _scored_blocks(network, X[start:end]):
            _top_of_all(logits, first, labels[start:end], scores[start:end])
        return (end - start) * network.n_labels

    def search(start: int, end: int) -> int:
        found = score_retrieved(network, X if end - start == n else X[start:end])
        keep_best(found.pairs, found.scores(vote, margin), labels[start:end], scores[start:end])
        return len(found.logits)

    whole = exact or network.indexes[-1] is None
    find, size = (scan, _EXAMPLES) if whole else (search, PIECE)

    def rank(start: int, end: int) -> int:
        active = find(start, end)
        if together is not None:
            own = slice(start, end), slice(CANDIDATES)
            labels[own], scores[own] = rank_again(together, labels[own], scores[own])
        return active

    active = sum(workers.map(rank, pieces(n, size)))
    return TopK(labels[:, :k], scores[:, :k], active)


def score_retrieved(network: Network, X: csr_matrix) -> Retrieved:
    """Score the neurons that the tables find for examples X (n, d), by all that speaks on them."""
    x = sparse_rows(X)
    h = hidden_rows(network, x)
    index = network.indexes[-1]
    assert index is not None
    pairs = retrieve_labels(network, x, h, index.predict_size)
    votes = None if network.memory is None else find_votes(network.memory, x)
    if votes is not None:
        pairs = unite(pairs, votes.pairs)
    logits = np.empty(len(pairs.neurons), np.float32)
    pair_logits(h, network.output.weight, pairs, logits)
    hinges = _add_sparse_scores(network, x, pairs, logits)
    shares = np.zeros(len(logits), np.float32)
    if votes is not None:
        add_pair_votes(votes, pairs, shares)
    return Retrieved(pairs, logits, hinges, shares)


def _add_sparse_scores(
    network: Network, x: Rows, pairs: Pairs, logits: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Add what the wide path says of every pair to its logit; returns hinges, all (n_pairs,).

    Wide path and margins have the same features, so these are looked up once.
    """
    wide, margins = network.wide, network.margins
    hinges = np.zeros(len(logits), np.float32)
    paths = [path for path in (wide, None if margins is None else margins.path) if path is not None]
    if not paths:
        return hinges
    hits = find_hits(x, paths[0], pairs)
    if wide is not None:
        add_pair_scores(wide, hits, logits)
    if margins is not None:
        np.take(margins.bias, pairs.neurons, out=hinges)
        add_pair_scores(margins.path, hits, hinges)
        squared_hinges(hinges)
    return hinges


def all_scores(network: Network, X: csr_matrix, workers: Workers) -> NDArray[np.float32]:
    """Logits of every label, (n, n_labels); for few labels, since the result is dense."""
    scores = np.empty((X.shape[0], network.n_labels), np.float32)
    together = _cooccurrence(network)

    def score(start: int, end: int) -> None:
        for first, logits in _scored_blocks(network, X[start:end]):
            scores[start:end, first : first + logits.shape[1]] = logits
        if together is not None:
            _add_company(together, scores[start:end])

    workers.map(score, pieces(X.shape[0]))
    return scores


def _add_company(together: Cooccurrence, scores: NDArray[np.float32]) -> None:
    """Let the best of all labels, scores (n, n_labels), gain by their company, in place."""
    shape = (len(scores), min(CANDIDATES, scores.shape[1]))
    labels, best = np.full(shape, -1, np.int64), np.full(shape, -np.inf, np.float32)
    _top_of_all(scores, 0, labels, best)
    labels, best = rank_again(together, labels, best)
    np.put_along_axis(scores, labels, best, 1)


def _scored_blocks(network: Network, X: csr_matrix) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Logits of all labels, a block of them at a time: the first label, and logits (n, block).

    Blocks stay in the cache until they are ranked; no array is as wide as the layer.
    """
    x = sparse_rows(X)
    h = hidden_rows(network, x)
    votes = None if network.memory is None else find_votes(network.memory, x)
    margins, columns = network.margins, columns_of(X)
    vote, margin = _strengths(network)
    for first in range(0, network.n_labels, _LABELS):
        weight = network.output.weight[first : first + _LABELS].T
        logits = product(h, weight if h.dense else np.ascontiguousarray(weight))
        labels = np.arange(first, first + logits.shape[1])
        if network.wide is not None:
            add_block_scores(columns, network.wide, labels, logits)
        if margins is not None:
            hinges = np.tile(margins.bias[labels], (len(logits), 1))
            add_block_scores(columns, margins.path, labels, hinges)
            logits -= np.float32(margin) * squared_hinges(hinges)
        if votes is not None:
            add_block_votes(votes, vote, first, logits)
        yield first, logits


@njit(cache=True, nogil=True)
def _insert(
    labels: NDArray[np.int64], scores: NDArray[np.float32], label: int, score: np.float32
) -> None:
    """Insert a label that beats the last of the best (k,) where it belongs."""
    place = len(labels) - 1
    while place > 0 and (
        labels[place - 1] < 0
        or score > scores[place - 1]
        or (score == scores[place - 1] and label < labels[place - 1])
    ):
        labels[place], scores[place] = labels[place - 1], scores[place - 1]
        place -= 1
    labels[place], scores[place] = label, score


@njit(cache=True, nogil=True)
def _top_of_all(
    logits: NDArray[np.float32],
    first: int,
    labels: NDArray[np.int64],
    scores: NDArray[np.float32],
) -> None:
    """Keep the best k of logits (n, block), whose labels count from ``first``, and of those before.

    Labels and scores (n, k) start at -1, -inf.
    """
    k = labels.shape[1]
    for i in range(logits.shape[0]):
        for n in range(logits.shape[1]):
            if labels[i, k - 1] < 0 or logits[i, n] > scores[i, k - 1]:
                _insert(labels[i], scores[i], first + n, logits[i, n])


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
                _insert(labels[i], scores[i], n, score)
