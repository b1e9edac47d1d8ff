"""Searching: the neurons that may be an example's best, found and ranked."""

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from slidelearn.head import NO_HEAD
from slidelearn.index import Lookup, NeuronIndex
from slidelearn.layers import Pairs
from slidelearn.network import Network, find_labels, hidden_rows
from slidelearn.retrieved import Retrieved
from slidelearn.rows import sparse_rows
from slidelearn.sampling import unite
from slidelearn.scoring import Cut, plain, score
from slidelearn.scratch import zeros

__all__ = ["ALL", "score_retrieved", "search"]

_EVERY = 2**31 - 1
ALL = Cut(*(_EVERY,) * 4, 0, 0.0)
# More than are wanted whose rows are read in full: 4 leave a recall@5 of the calls at 0.9911, and
# none at 0.9909.
_SPARE = 4


def score_retrieved(network: Network, X: csr_matrix) -> Retrieved:
    """Score all neurons that are found for examples X (n, d), by all that speaks on them."""
    network = network._replace(head=NO_HEAD)
    nothing = np.empty((X.shape[0], 0), np.int64), np.empty((X.shape[0], 0), np.float32)
    pairs, *scores = score(network.known, _ask(network, X, ALL, 1.0), *nothing)
    return Retrieved(Pairs(*pairs), *scores)


def search(
    network: Network,
    X: csr_matrix,
    labels: NDArray[np.int64],
    scores: NDArray[np.float32],
    best: int,
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
    best : int
        How many of the k somebody asked for; the others are whom company ranks these among.
    scale : float
        Times as many neurons as the settings say may be found, and be left by each stage. Above 1,
        the labels of the largest biases are always among them.

    Returns
    -------
    int
        Neurons whose logits were computed.
    """
    index, k = network.indexes[-1], labels.shape[1]
    assert index is not None
    config = index.config
    n_logits = _scaled(config.predict_logits, scale)
    n_scores = _scaled(config.predict_scores, scale)
    n_head = _scaled(config.predict_head, scale)
    n_rows, slack = k + _SPARE, config.predict_slack * scale**0.5
    cut = Cut(max(n_logits, k), max(n_scores, k), n_rows, max(n_head, n_rows), best, slack)
    if network.postings is None:  # which alone say something before logits are computed
        cut = cut._replace(logits=ALL.logits)
    *_, active = score(network.known, _ask(network, X, cut, scale, k), labels, scores)
    return int(active)


def _scaled(size: int, scale: float) -> int:
    """A size times a scale, at least 1."""
    return max(1, math.ceil(size * scale))


def _ask(network: Network, X: csr_matrix, cut: Cut, scale: float, k: int = 0) -> tuple[Any, ...]:
    """Gather what examples X (n, d) are asked with: see `score`.

    Hash tables of the output layer are looked up here, and before them the postings, since these
    say who is looked up; otherwise the kernel does that.
    """
    x, index = sparse_rows(X), network.indexes[-1]
    assert index is not None
    size, scratch = _scaled_lookup(index, scale, k), zeros(network.room)
    alone = network.searches_postings
    h = None if alone and network.simple else hidden_rows(network, x)
    found = None
    if h is not None and not alone:
        by_postings, more = find_labels(network, x, h, size)
        found = by_postings, unite((more,))  # ascending: among equals the smaller ids stay
    return tuple(x), h and tuple(h), plain(found), tuple(size), tuple(cut), scratch


def _scaled_lookup(index: NeuronIndex, scale: float, k: int) -> Lookup:
    """What may be found at a scale for the best k; see `_scale_lookup`."""
    return _scale_lookup(index.predict_size, index.ranked, index.sketches is not None, scale, k)


@lru_cache(maxsize=256)
def _scale_lookup(size: Lookup, ranked: bool, sketched: bool, scale: float, k: int) -> Lookup:
    """What may be found at a scale for the best k.

    What goes further than usual finds the usual labels always. About twice as many neurons are
    within reach where that is a fifth longer. Twice as many as are wanted are kept where bytes rank
    them, which may swap those that are nearly equal; that number grows as the reach does where
    sketches spare most rows, for then those kept cost most.
    """
    further = scale**0.25
    *sizes, reach, faint = size
    probes, limit, wide_cap, wide_limit, few = (_scaled(int(part), scale) for part in sizes)
    if ranked:
        limit = _scaled(max(size.limit, 2 * k), further if sketched else scale)
    if scale > 1:
        few = ALL.logits
    return Lookup(probes, limit, wide_cap, wide_limit, few, reach * further, faint)
