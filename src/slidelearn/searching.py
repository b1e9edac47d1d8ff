"""Searching: the neurons that may be an example's best, found and ranked."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from slidelearn.index import Lookup, NeuronIndex
from slidelearn.layers import Pairs
from slidelearn.memory import Worth, room_for_votes
from slidelearn.network import Network, find_labels, hidden_rows
from slidelearn.postings import Found, Postings
from slidelearn.rows import sparse_rows
from slidelearn.scoring import Cut, Neurons, Question, Retrieved, Sparse, score
from slidelearn.scratch import zeros

__all__ = ["ALL", "room", "score_retrieved", "search", "strengths"]

ALL = Cut(2**31 - 1, 2**31 - 1)
_NOTHING = np.empty(0, np.float32)
_NO_POSTINGS = Postings(
    np.empty(0, np.int64), np.empty(0, np.int32), _NOTHING, _NOTHING, np.empty(0, np.int32)
)


def strengths(network: Network) -> tuple[Worth, float]:
    """How much votes, twins and margins weigh in predictions."""
    memory, margins = network.memory, network.margins
    return (
        Worth(0.0, 0.0) if memory is None else memory.worth,
        0.0 if margins is None else margins.strength,
    )


def room(network: Network) -> NDArray[np.float32]:
    """Scratch for whatever is asked of an example, of zeros."""
    most = max(network.n_features, network.n_labels)
    return zeros(most) if network.memory is None else room_for_votes(network.memory)


def score_retrieved(network: Network, X: csr_matrix) -> Retrieved:
    """Score all neurons that are found for examples X (n, d), by all that speaks on them."""
    nothing = np.empty((X.shape[0], 0), np.int64), np.empty((X.shape[0], 0), np.float32)
    return Retrieved(*score(_question(network, X, ALL, 1.0), *nothing))


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
        Times as many neurons as the settings say may be found, and be left for the network; what it
        says ranks them well, so the last stage grows with the root of that. Above 1, the labels of
        the largest biases are always among them.

    Returns
    -------
    int
        Neurons whose logits were computed.
    """
    index, k = network.indexes[-1], labels.shape[1]
    assert index is not None
    config = index.config
    n_logits = _scaled(config.predict_logits, scale)
    n_scores = _scaled(config.predict_scores, math.sqrt(scale))
    cut = Cut(max(n_logits, k), max(n_scores, k))
    if network.postings is None:  # which alone say something before logits are computed
        cut = cut._replace(logits=ALL.logits)
    found = Retrieved(*score(_question(network, X, cut, scale, k), labels, scores))
    return found.active


def _scaled(size: int, scale: float) -> int:
    """A size times a scale, at least 1."""
    return max(1, math.ceil(size * scale))


def _question(network: Network, X: csr_matrix, cut: Cut, scale: float, k: int = 0) -> Question:
    """Gather all that examples X (n, d) are asked with, so that one call of a kernel answers them.

    Hash tables of the output layer are looked up here, and before them the postings, since these
    say who is looked up; otherwise the kernel does that.
    """
    x = sparse_rows(X)
    h = hidden_rows(network, x)
    index, output = network.indexes[-1], network.output
    assert index is not None
    alone = index.tables is None and network.postings is not None
    size = _scaled_lookup(index, scale, k)
    if scale > 1:  # what goes further than usual finds the usual labels always
        size = size._replace(few=ALL.logits)
    if alone:
        more = Pairs(np.zeros(x.n + 1, np.int64), _NO_POSTINGS.labels)
        found = Found(more, _NO_POSTINGS.weights)
    else:
        found, more = find_labels(network, x, h, size)
    postings = network.postings or _NO_POSTINGS
    neurons, sparse = Neurons(output.weight, output.small, output.bias), _sparse_scores(network)
    asked = network.memory, neurons, sparse, *strengths(network)
    return Question(x, h, found, more, postings, alone, size, *asked, cut, room(network))


def _scaled_lookup(index: NeuronIndex, scale: float, k: int) -> Lookup:
    """What may be found at a scale for the best k.

    About twice as many neurons are within reach where that is a fifth longer. Twice as many as are
    wanted are kept where bytes rank them, which may swap those that are nearly equal; that number
    grows as the reach does where sketches spare most rows, for then those kept cost most.
    """
    size, further = index.predict_size, scale**0.25
    *sizes, reach = size
    probes, limit, wide_cap, wide_limit, few = (_scaled(int(part), scale) for part in sizes)
    if index.ranked:
        limit = _scaled(max(size.limit, 2 * k), scale if index.sketches is None else further)
    return Lookup(probes, limit, wide_cap, wide_limit, few, reach * further)


def _sparse_scores(network: Network) -> Sparse | None:
    """What wide path and margins weigh, as far as the network has them."""
    wide, margins = network.wide, network.margins
    if margins is not None:
        weights = _NOTHING if wide is None else wide.weights
        return Sparse(margins.path, weights, margins.bias, network.ranks)
    if wide is None:
        return None
    return Sparse(wide._replace(weights=_NOTHING), wide.weights, _NOTHING, network.ranks)
