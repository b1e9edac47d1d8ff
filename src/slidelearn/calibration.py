"""Calibration: what predictions weigh, chosen on examples that training left out.

How far the memory is to be trusted, the margins, and labels that are frequent, differs from data to
data. Commits want votes of 1.5 and lose 1.1 of their P@1 with 5, while calls gain 0.4 and sessions
0.2 from these; a bias by frequency of 0.2 raises P@1 on calls by 0.5 and P@5 by 0.3, and does
nothing for commits.
"""

from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from slidelearn.cooccurrence import CANDIDATES, Cooccurrence, rank_again
from slidelearn.csr import slice_rows, take_rows
from slidelearn.memory import Worth
from slidelearn.metrics import RANKS, hits, sum_precisions
from slidelearn.network import Network
from slidelearn.retrieved import Retrieved, keep_best
from slidelearn.rows import BIAS_INPUT
from slidelearn.scratch import zeros
from slidelearn.searching import score_retrieved
from slidelearn.workers import Workers, pieces

__all__ = ["TWINS", "Strengths", "choose_strengths", "hold_out", "move_back", "with_strengths"]

_VOTES = (0.75, 1.5, 3.0, 5.0, 8.0)
TWINS = (0.0, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0)
_MARGINS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_FREQUENCIES = (0.0, -1.0, -0.5, -0.2, -0.1, 0.1, 0.2, 0.3)
_COOCCURRENCES = (0.0, 0.2, 0.4, 0.6, 0.8)
_BLOCK = 2**14  # rows that move at a time


class Strengths(NamedTuple):
    """What is added to a label's logit.

    Attributes
    ----------
    vote : float
        If all votes are for it.
    twin : float
        Where it has an example at a cosine of 1; subtracted.
    margin : float
        Where the margin of its classifier is 0; subtracted.
    frequency : float
        For each unit of the logarithm of 1 + its examples.
    cooccurrence : float
        For each unit of the logarithm of its chance by co-occurrence.
    """

    vote: float
    twin: float
    margin: float
    frequency: float
    cooccurrence: float

    @property
    def worth(self) -> Worth:
        """What votes and twins weigh."""
        return Worth(self.vote, self.twin)


def hold_out(n: int, size: int, seed: int) -> NDArray[np.bool_]:
    """Mark ``size`` of n examples, or half of them if there are fewer, for calibration.

    Examples
    --------
    >>> int(hold_out(10, 3, seed=0).sum())
    3
    """
    marks = np.zeros(n, np.bool_)
    marks[np.random.default_rng((seed, 4)).permutation(n)[: min(size, n // 2)]] = True
    return marks


def move_back(rows: csr_matrix, marks: NDArray[np.bool_]) -> csr_matrix:
    """Put marked rows behind the others, in place; among themselves they stay in order.

    Returns the others, not copied. What is not marked moves block by block: the rows may be more
    than memory holds.

    Examples
    --------
    >>> rows = csr_matrix([[1, 0], [0, 2], [3, 4]])
    >>> move_back(rows, np.array([True, False, False])).toarray().tolist(), rows.toarray().tolist()
    ([[0, 2], [3, 4]], [[0, 2], [3, 4], [1, 0]])
    """
    indptr, counts, end = rows.indptr, np.diff(rows.indptr), 0
    moved = take_rows(rows, np.flatnonzero(marks))
    for first in range(0, len(marks), _BLOCK):
        last = min(first + _BLOCK, len(marks))
        kept = np.repeat(~marks[first:last], counts[first:last])
        stop = end + int(np.count_nonzero(kept))
        for values in (rows.indices, rows.data):
            values[end:stop] = values[indptr[first] : indptr[last]][kept]
        end = stop
    rows.indices[end:], rows.data[end:] = moved.indices, moved.data
    n = len(marks) - moved.shape[0]
    np.cumsum(np.concatenate((counts[~marks], counts[marks])), out=indptr[1:])
    return slice_rows(rows, 0, n)


def choose_strengths(
    network: Network,
    counts: NDArray[np.integer],
    X: csr_matrix,
    Y: csr_matrix,
    workers: Workers,
) -> Strengths:
    """Choose the strengths with the largest mean of P@1, P@3 and P@5.

    Those of votes and margins come first, then that of frequency, of co-occurrence and of twins;
    all but frequency's stay if no others are better.

    Parameters
    ----------
    network : Network
        With tables, a memory and margins that know nothing of the examples.
    counts : integer array of shape (n_labels,)
        Training examples of every label.
    X, Y : csr_matrix of shapes (n, d) and (n, n_labels)
        Examples and their labels.
    workers : Workers
        Threads.
    """
    logarithms = np.log1p(counts).astype(np.float32)

    def score(start: int, end: int) -> tuple[Retrieved, csr_matrix]:
        return score_retrieved(network, slice_rows(X, start, end)), slice_rows(Y, start, end)

    parts = workers.map(score, pieces(X.shape[0]))

    memory, margins = network.memory, network.margins
    assert memory is not None
    assert margins is not None
    together = memory.cooccurrence

    def best(choices: list[Strengths]) -> Strengths:
        def measure(number: int, _: int) -> list[float]:
            found, truth = parts[number]
            return [_precision(found, truth, logarithms, together, c) for c in choices]

        sums = np.sum(workers.map(measure, pieces(len(parts), 1)), axis=0)
        return choices[int(np.argmax(sums))]

    (vote, twin), margin = memory.worth, margins.strength
    pairs = [(vote, margin), *product(_VOTES, _MARGINS)]
    chosen = best([Strengths(vote, twin, margin, 0.0, 0.0) for vote, margin in pairs])
    chosen = best([chosen._replace(frequency=frequency) for frequency in _FREQUENCIES])
    if together.strength:
        strengths = (together.strength, *_COOCCURRENCES)
        chosen = best([chosen._replace(cooccurrence=strength) for strength in strengths])
    return best([chosen._replace(twin=twin) for twin in (twin, *TWINS)])


def _precision(
    found: Retrieved,
    Y: csr_matrix,
    logarithms: NDArray[np.float32],
    together: Cooccurrence,
    choice: Strengths,
) -> float:
    """Precisions with one choice of strengths, summed over ranks and examples."""
    width = CANDIDATES if choice.cooccurrence else max(RANKS)
    labels = np.full((Y.shape[0], width), -1, np.int64)
    best = np.full(labels.shape, -np.inf, np.float32)
    scores = found.scores(choice.worth, choice.margin)
    scores += np.float32(choice.frequency) * logarithms[found.pairs.neurons]
    keep_best(found.pairs, scores, labels, best)
    if choice.cooccurrence:
        company = together._replace(strength=choice.cooccurrence)
        rank_again(company, labels, best, zeros(Y.shape[1]))
    hit = hits(labels[:, : max(RANKS)], Y)
    return float(sum_precisions(hit))


def with_strengths(network: Network, strengths: Strengths, counts: NDArray[np.integer]) -> Network:
    """Return the network with these strengths; those of the frequency join its biases, in place."""
    memory, margins, postings = network.memory, network.margins, network.postings
    assert memory is not None
    assert margins is not None
    bias = network.output.weight[:, -1]
    bias += np.float32(strengths.frequency / BIAS_INPUT) * np.log1p(counts).astype(np.float32)
    if postings is not None:
        postings = postings._replace(bias=BIAS_INPUT * bias)
    together = memory.cooccurrence._replace(strength=strengths.cooccurrence)
    return network._replace(
        memory=memory._replace(worth=strengths.worth, cooccurrence=together),
        margins=margins._replace(strength=strengths.margin),
        postings=postings,
    )
