"""Twins: whether what is nearly the same as a training example has its labels, or others.

A passage that many pages have in common is on each of them once: whoever meets it again looks for
another page. There, labels with such an example must step back: P@1 rises from 19.6 to 32 on
passages of man pages and from 23.0 to 33 on 27,000 of Rust's documentation. Elsewhere, as among the
functions that a function calls, the labels of the nearest examples are the best that is known.

From 50,000 examples on, `slidelearn.calibration` chooses on examples that training left out. Of
fewer none can be spared, but the start tells nearly as much.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from slidelearn.calibration import TWINS
from slidelearn.config import Config
from slidelearn.csr import make_csr, take_rows
from slidelearn.leave_one_out import USUAL_DOUBT, as_good, asked_rows, best_left_out, plain_metric
from slidelearn.memory import Votes, Worth, find_votes, make_memory, room_for_votes
from slidelearn.metrics import RANKS, hits, sum_precisions
from slidelearn.rows import sparse_rows
from slidelearn.workers import Workers

__all__ = ["choose_twin"]

_ASKED = 1000  # examples that ask
_CANDIDATES = 64  # labels of an example that may be ranked anew
# Trained logits lie further apart than those of the start: P@1 with what the start chose, twice and
# four times as much is 32.1, 33.2 and 30.7 on passages, 8.8, 9.7 and 9.5 on 30,000 of man pages.
_TRAINED = 2.0


def choose_twin(X: csr_matrix, Y: csr_matrix, config: Config, workers: Workers) -> Config:
    """Choose what a twin costs a label, by examples left out of centroids and of the memory.

    Parameters
    ----------
    X, Y : csr_matrix of shapes (n, d) and (n, n_labels)
        The examples, ready for the network, and their labels. Of fewer than 2,000 nothing is
        chosen: those that ask are not remembered.
    config : Config
        ``twin`` is chosen if it is None.
    workers : Workers
        Threads.

    Returns
    -------
    Config
        The settings with the choice: 0, unless another has a mean of P@1, P@3 and P@5 that is
        larger by more than two standard errors.
    """
    if config.twin is not None:
        return config
    rows = asked_rows(X.shape[0], _ASKED, config)
    others = np.setdiff1d(np.arange(X.shape[0]), rows)
    if not config.neighbours or len(others) < len(rows):
        return replace(config, twin=0.0)
    known = take_rows(X, others), take_rows(Y, others)
    memory = make_memory(*known, limit=config.neighbours, worth=Worth(config.vote, 0.0))
    votes = find_votes(memory, sparse_rows(take_rows(X, rows)), room_for_votes(memory))
    labels, scores = _rank(X, Y, rows, config, workers)
    scores += np.float32(config.vote) * _of_labels(labels, votes, votes.shares, Y.shape[1])
    twins, y = _of_labels(labels, votes, votes.twins, Y.shape[1]), take_rows(Y, rows)
    sums = np.stack([_precisions(labels, scores - twin * twins, y) for twin in TWINS])
    best = int(sums.sum(axis=1).argmax())
    chosen = (0, best)[as_good(sums[[0, best]])[0]]
    return replace(config, twin=_TRAINED * TWINS[chosen])


def _rank(
    X: csr_matrix, Y: csr_matrix, rows: NDArray[np.int64], config: Config, workers: Workers
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Best labels of those that ask, and their scores, (n, k), by features as they are."""
    metric = plain_metric(X.shape, USUAL_DOUBT if config.doubt is None else config.doubt)
    labels, scores = best_left_out(X, Y, rows, config, workers, metric, _CANDIDATES)
    return labels[:, 0], scores[:, 0]


def _of_labels(
    labels: NDArray[np.int64], votes: Votes, values: NDArray[np.float32], n_labels: int
) -> NDArray[np.float32]:
    """What labels (n, k) have of the values of votes (n_pairs,); those that are -1 have nothing."""
    table = make_csr(values, votes.pairs.neurons, votes.pairs.indptr, (len(labels), n_labels))
    rows = np.repeat(np.arange(len(labels)), labels.shape[1])
    found = np.asarray(table[rows, labels.ravel()]).reshape(labels.shape)
    return np.where(labels >= 0, found, np.float32(0))


def _precisions(
    labels: NDArray[np.int64], scores: NDArray[np.float32], Y: csr_matrix
) -> NDArray[np.float64]:
    """P@1, P@3 and P@5 of every example, summed up, with labels (n, k) ranked by scores."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, : max(RANKS)]
    return sum_precisions(hits(np.take_along_axis(labels, best, axis=1), Y), axis=1)
