"""Rivals: labels that an example might be taken to have, and has not.

Those that the network confused with its own while it trained, and those of examples near it in the
memory. Margins are fitted against them.
"""

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from slidelearn.csr import slice_rows
from slidelearn.heap import offer
from slidelearn.layers import Pairs, pairs_of
from slidelearn.losses import Strata, mark_counted
from slidelearn.memory import Memory, Votes, find_votes, room_for_votes
from slidelearn.rows import sparse_rows
from slidelearn.workers import Workers, pieces

__all__ = ["by_rival", "find_rivals", "keep_rivals"]

_LOOKUP = 512  # examples that one thread looks up at a time
# Among so many examples rivals need not be those of the very nearest. With half the features and
# 30 of the 50 examples that vote in predictions, P@1, P@3 and P@5 were 58.8, 32.9, 23.7 both ways
# on commits, and 53.8, 38.9, 30.8 instead of 53.7, 38.9, 30.8 on the calls, where to find them took
# 20 s and not 32. Of few examples that costs a little (56.6, 23.4, 14.8 instead of 56.8, 23.5, 14.8
# on 54,000) and saves nothing to speak of.
_MANY = 100_000
_NEAR, _PROBES = 30, 8


@njit(cache=True, nogil=True)
def keep_rivals(
    strata: Strata,
    pair_logits: NDArray[np.float32],
    shared_logits: NDArray[np.float32],
    out: NDArray[np.int32],
) -> None:
    """Keep the wrong neurons of largest logits, (n_pairs,) and (n, m), of every example.

    ``out`` (n, r) starts at -1, which stays where there are fewer.
    """
    size = out.shape[1]
    if size == 0:
        return
    keys, counted = np.empty(size, np.float32), np.empty(shared_logits.shape[1], np.bool_)
    for i in range(len(out)):
        start, end, kept = strata.indptr[i], strata.indptr[i + 1], np.int64(0)
        mark_counted(strata, start, end, counted)
        for p in range(start + strata.n_labels[i], end):
            kept = offer(keys, out[i], kept, pair_logits[p], np.int64(strata.neurons[p]))
        for j in range(len(counted)):
            logit = shared_logits[i, j]
            if counted[j] and (kept < size or logit >= keys[0]):  # few are: spares most calls
                kept = offer(keys, out[i], kept, logit, np.int64(strata.shared[j]))


def find_rivals(
    memory: Memory, X: csr_matrix, Y: csr_matrix, size: int, workers: Workers
) -> NDArray[np.int32]:
    """Find the wrong labels that most votes of the examples near X (n, d), labels Y, are for.

    Returns (n, size), with -1 where there are fewer.
    """
    if X.shape[0] >= _MANY:
        memory = memory._replace(limit=min(memory.limit, _NEAR), probes=_PROBES)
    out = np.full((X.shape[0], size), -1, np.int32)

    def find(start: int, end: int) -> None:
        x, labels = sparse_rows(slice_rows(X, start, end)), pairs_of(slice_rows(Y, start, end))
        votes = find_votes(memory, x, room_for_votes(memory))
        _keep_voted(votes, labels, out[start:end])

    workers.map(find, pieces(X.shape[0], _LOOKUP))
    return out


@njit(cache=True, nogil=True)
def _keep_voted(votes: Votes, labels: Pairs, out: NDArray[np.int32]) -> None:
    """Keep the labels with most votes of every example that are not its own, (n, r)."""
    keys = np.empty(out.shape[1], np.float32)
    for i in range(len(out)):
        own, kept = labels.neurons[labels.indptr[i] : labels.indptr[i + 1]], np.int64(0)
        for v in range(votes.pairs.indptr[i], votes.pairs.indptr[i + 1]):
            label = votes.pairs.neurons[v]
            at = np.searchsorted(own, label)
            if at == len(own) or own[at] != label:
                kept = offer(keys, out[i], kept, votes.shares[v], np.int64(label))


def by_rival(parts: Sequence[NDArray[np.int32]], n_labels: int) -> Pairs:
    """Turn the rivals of every example, (n, r) in each part, into the examples of every label.

    -1 is none. An example may be there once for each part.

    Examples
    --------
    >>> by_rival([np.array([[1, -1], [1, 0]], np.int32)], 2)
    Pairs(indptr=array([0, 1, 3]), neurons=array([1, 0, 1], dtype=int32))
    """
    indptr = np.zeros(n_labels + 1, np.int64)
    for rivals in parts:
        _count(rivals, indptr[1:])
    np.cumsum(indptr, out=indptr)
    places, examples = indptr[:-1].copy(), np.empty(indptr[-1], np.int32)
    for rivals in parts:
        _turn(rivals, places, examples)
    return Pairs(indptr, examples)


@njit(cache=True, nogil=True)
def _count(rivals: NDArray[np.int32], counts: NDArray[np.int64]) -> None:
    """Count how often every label (n_labels,) is a rival; np.bincount would make three copies."""
    for i in range(len(rivals)):
        for label in rivals[i]:
            if label >= 0:
                counts[label] += 1


@njit(cache=True, nogil=True)
def _turn(
    rivals: NDArray[np.int32], places: NDArray[np.int64], examples: NDArray[np.int32]
) -> None:
    """Write every example into the places of its rivals, from ``places`` (n_labels,) on."""
    for i in range(len(rivals)):
        for label in rivals[i]:
            if label >= 0:
                examples[places[label]] = i
                places[label] += 1
