"""Predicting: the top k labels of examples, by scoring every neuron or only retrieved ones."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from slidelearn.cooccurrence import CANDIDATES, Cooccurrence, rank_again
from slidelearn.csr import slice_rows
from slidelearn.heap import insert
from slidelearn.margins import squared_hinges
from slidelearn.memory import (
    add_block_votes,
    find_votes,
)
from slidelearn.network import Network, hidden_rows
from slidelearn.rows import product, sparse_rows
from slidelearn.scratch import zeros
from slidelearn.searching import search
from slidelearn.wide_block import add_block_scores, columns_of
from slidelearn.workers import Workers, pieces

__all__ = ["TopK", "all_scores", "predict_topk"]

_EXAMPLES, _LABELS = 256, 5000  # whose logits one thread holds at a time in an exact scan, 5 MB
# Examples that one thread searches for at a time. What is read for one is often in the cache from
# another: two threads answer 14,400, 17,100, 19,100 and 20,100 examples of the calls a second in
# pieces of 64, 256, 512 and 1,024, and no more in larger ones.
_FEWEST, _MOST = 64, 1024
_ENTRIES = 2**15  # of a piece, about: what 50 labels have of them takes 20 MB
_PIECES = 8  # of few examples, for as many threads


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


def _company(network: Network) -> Cooccurrence | None:
    """What the best labels are ranked again by, if anything."""
    together = None if network.memory is None else network.memory.cooccurrence
    return together if together is not None and together.strength else None


def predict_topk(
    network: Network, X: csr_matrix, k: int, *, exact: bool, workers: Workers, scale: float = 1.0
) -> TopK:
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
    scale : float
        How far a search goes, see `slidelearn.searching.search`.
    """
    n, together = X.shape[0], _company(network)
    width = k if together is None else max(k, CANDIDATES)
    labels, scores = np.empty((n, width), np.int64), np.empty((n, width), np.float32)
    labels.fill(-1)
    scores.fill(-np.inf)

    def scan(start: int, end: int) -> int:
        own, own_scores = labels[start:end], scores[start:end]
        for first, logits in _scored_blocks(network, slice_rows(X, start, end)):
            _top_of_all(logits, first, own, own_scores)
        if together is not None:
            rank_again(together, own, own_scores, zeros(network.room))
        return (end - start) * network.n_labels

    def find(start: int, end: int) -> int:
        rows = X if end - start == n else slice_rows(X, start, end)
        return search(network, rows, labels[start:end], scores[start:end], k, scale)

    if exact or network.indexes[-1] is None:
        active = workers.map(scan, pieces(n, _EXAMPLES))
    else:
        active = workers.map(find, pieces(n, _piece(n, X.nnz)))
    return TopK(labels[:, :k], scores[:, :k], sum(active))


def _piece(n: int, n_entries: int) -> int:
    """How many of n examples with so many entries a thread searches for at a time."""
    most = min(_MOST, _ENTRIES * n // max(n_entries, 1), -(-n // _PIECES))
    return max(_FEWEST, most)


def all_scores(network: Network, X: csr_matrix, workers: Workers) -> NDArray[np.float32]:
    """Logits of every label, (n, n_labels); for few labels, since the result is dense."""
    scores = np.empty((X.shape[0], network.n_labels), np.float32)
    together = _company(network)

    def score(start: int, end: int) -> None:
        for first, logits in _scored_blocks(network, slice_rows(X, start, end)):
            scores[start:end, first : first + logits.shape[1]] = logits
        if together is not None:
            _add_company(together, scores[start:end], zeros(network.room))

    workers.map(score, pieces(X.shape[0]))
    return scores


def _add_company(
    together: Cooccurrence, scores: NDArray[np.float32], scratch: NDArray[np.float32]
) -> None:
    """Let the best of all labels, scores (n, n_labels), gain by their company, in place."""
    shape = (len(scores), min(CANDIDATES, scores.shape[1]))
    labels, best = np.full(shape, -1, np.int64), np.full(shape, -np.inf, np.float32)
    _top_of_all(scores, 0, labels, best)
    rank_again(together, labels, best, scratch)
    np.put_along_axis(scores, labels, best, 1)


def _scored_blocks(network: Network, X: csr_matrix) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Logits of all labels, a block of them at a time: the first label, and logits (n, block).

    Blocks stay in the cache until they are ranked; no array is as wide as the layer.
    """
    x = sparse_rows(X)
    h = hidden_rows(network, x)
    votes = None if network.memory is None else find_votes(network.memory, x, zeros(network.room))
    margins, columns = network.margins, columns_of(X)
    worth, margin = network.strengths
    for first in range(0, network.n_labels, _LABELS):
        weight = network.output.neurons(first, first + _LABELS).T
        logits = product(h, weight if h.dense else np.ascontiguousarray(weight))
        labels = np.arange(first, first + logits.shape[1])
        if network.wide is not None:
            add_block_scores(columns, network.wide, labels, logits)
        if margins is not None:
            hinges = np.tile(margins.bias[labels], (len(logits), 1))
            add_block_scores(columns, margins.path, labels, hinges)
            squared_hinges(hinges)
            logits -= np.float32(margin) * hinges
        if votes is not None:
            add_block_votes(votes, worth, first, logits)
        yield first, logits


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
                insert(labels[i], scores[i], first + n, logits[i, n])
