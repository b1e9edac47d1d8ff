"""Growing: a trained network takes in labels that it has never seen."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from slidelearn.config import Config
from slidelearn.csr import count_ids, keep_entries, make_csr
from slidelearn.index import NeuronIndex
from slidelearn.layers import Layer
from slidelearn.leave_one_out import trust
from slidelearn.margins import Margins, make_margins
from slidelearn.memory import extend_memory
from slidelearn.network import Network, make_network
from slidelearn.optimizers import Optimizer
from slidelearn.start import OwnShare, start_network
from slidelearn.wide import Wide, make_wide, scale_labels
from slidelearn.workers import Workers

__all__ = ["grow_network", "joined_lists"]


class _Joined(NamedTuple):
    """A wide path that holds the pairs of an old one and of a new one.

    ``places`` (n_old_pairs,) says where those of the old one are, and ``first_seen`` (n_labels,)
    which labels it had none of.
    """

    path: Wide
    places: NDArray[np.int64]
    first_seen: NDArray[np.bool_]


def grow_network(
    network: Network, config: Config, X: csr_matrix, Y: csr_matrix, workers: Workers
) -> tuple[Network, OwnShare]:
    """Make room for the labels of Y (n, l) beyond those of the network, and give them a start.

    New output neurons start as in a new network, from the examples X (n, d) alone. The wide path
    gains every pair of a feature and a label that occurs for the first time: at its centroid where
    the label is new to the path, at 0 otherwise; so do the margins, at 0. The memory gains the
    examples. Then `Trainer.make_tables` has to file the labels anew.
    """
    known, n_new = network.n_labels, Y.shape[1] - network.n_labels
    counts = count_ids(Y.indices, Y.shape[1])
    nothing = np.zeros(Y.shape[1], np.float32)
    own = OwnShare(nothing, nothing.copy(), np.zeros(Y.shape[1], np.bool_))
    if network.wide is not None:
        fresh, shares = make_wide(X, Y, config.wide)
        scale_labels(fresh, shares, trust(counts, config.doubt))
        joined = _join_wide(network.wide, fresh)
        own = own._replace(wide=np.where(joined.first_seen, shares, np.float32(0)))
    if n_new:
        rng = np.random.default_rng((config.seed, known))
        # The output layer of a new network does not depend on the number of features.
        output = make_network(config, 1, n_new, rng).output
        new = network._replace(output=output, wide=None)
        new, new_own = start_network(new, replace(config, wide=0.0), X, _behind(Y, known), workers)
        own.deep[known:] = new_own.deep
        own.lone[known:] = (counts[known:] == 1) & config.starts_at_examples
        network = network._replace(output=_join_layers(network.output, new.output))
    if network.memory is not None:
        network = network._replace(memory=extend_memory(network.memory, X, Y))
    if n_new and config.tail < network.n_labels:
        index = NeuronIndex(config.tables, config.seed)
        network = network._replace(indexes=(*network.indexes[:-1], index))
    if network.margins is not None:
        if network.wide is None:  # which else has the same pairs
            joined = _join_wide(network.margins.path, make_wide(X, Y, 0.0)[0])
        network = network._replace(margins=_spread(network.margins, joined))
    if network.wide is not None:
        network = network._replace(wide=joined.path)
    return network, own


def _behind(Y: csr_matrix, first: int) -> csr_matrix:
    """Columns of Y (n, l) from the first on."""
    kept = keep_entries(Y, Y.indices >= first)
    return make_csr(kept.data, kept.indices - first, kept.indptr, (Y.shape[0], Y.shape[1] - first))


def joined_lists(path: Wide, X: csr_matrix, Y: csr_matrix) -> NDArray[np.int64]:
    """Where the labels' lists begin once a path has the pairs of examples X (n, d), Y (n, l).

    Examples
    --------
    >>> X, Y = csr_matrix(np.array([[1, 1, 0]], np.float32)), csr_matrix([[1]])
    >>> joined_lists(make_wide(X, Y, 1.0)[0], X[:, [2, 1, 0]], csr_matrix([[1, 1]])).tolist()
    [0, 3, 5]
    """
    return _join_wide(path, make_wide(X, Y, 0.0)[0]).path.indptr


def _spread(margins: Margins, joined: _Joined) -> Margins:
    """Margins on all pairs of a path that has those of the margins and more: 0 on the new ones."""
    grown = make_margins(joined.path, margins.strength)
    grown.path.weights[joined.places] = margins.path.weights
    grown.bias[: len(margins.bias)] = margins.bias
    return grown


def _join_layers(old: Layer, new: Layer) -> Layer:
    """Put the neurons of two neuron-major layers one behind the other."""
    a, b = old.optimizer, new.optimizer
    optimizer = Optimizer(
        a.kind,
        np.concatenate([a.squares, b.squares]),
        np.concatenate([a.first, b.first]),
        np.concatenate([a.second, b.second]),
        np.concatenate([a.steps, b.steps]),
    )
    return Layer(np.concatenate([old.weight, new.weight]), optimizer, old.hashed)


def _join_wide(old: Wide, new: Wide) -> _Joined:
    """Add the pairs of a new wide path, of as many labels or more, to those of an old one."""
    n_labels = len(new.indptr) - 1
    indptr = np.zeros(n_labels + 1, np.int64)
    places = np.empty(len(old.features), np.int64)
    new_places = np.empty(len(new.features), np.int64)
    _merge(old, new, indptr, places, new_places)
    first_seen = np.ones(n_labels, np.bool_)
    first_seen[: len(old.indptr) - 1] = np.diff(old.indptr) == 0
    starts = np.where(np.repeat(first_seen, np.diff(new.indptr)), new.weights, np.float32(0))
    path = Wide(indptr, *(np.empty(indptr[-1], array.dtype) for array in new[1:]))
    old = old._replace(squares=old.squares if len(old.squares) else old.weights)
    new = new._replace(weights=starts)
    for array, before, added in zip(path[1:], old[1:], new[1:], strict=True):
        array[new_places], array[places] = added, before
    return _Joined(path, places, first_seen)


@njit(cache=True, nogil=True)
def _merge(
    old: Wide,
    new: Wide,
    indptr: NDArray[np.int64],
    places: NDArray[np.int64],
    new_places: NDArray[np.int64],
) -> None:
    """Merge the features of each of n labels: where labels end, indptr (n + 1,), and pairs go.

    ``places`` (n_old_pairs,) and ``new_places`` (n_new_pairs,) agree on pairs that are in both.
    """
    at = 0
    for label in range(len(indptr) - 1):
        known = label < len(old.indptr) - 1
        i, end = (old.indptr[label], old.indptr[label + 1]) if known else (0, 0)
        j, new_end = new.indptr[label], new.indptr[label + 1]
        while i < end or j < new_end:
            is_old = j == new_end or (i < end and old.features[i] <= new.features[j])
            is_new = i == end or (j < new_end and new.features[j] <= old.features[i])
            if is_old:
                places[i] = at
                i += 1
            if is_new:
                new_places[j] = at
                j += 1
            at += 1
        indptr[label + 1] = at
