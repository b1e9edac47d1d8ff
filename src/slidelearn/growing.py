"""Growing: a trained network takes in labels that it has never seen."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from slidelearn.config import Config
from slidelearn.csr import count_ids, keep_entries, make_csr
from slidelearn.index import NeuronIndex
from slidelearn.layers import Layer
from slidelearn.margins import Margins, make_margins
from slidelearn.memory import extend_memory
from slidelearn.network import Network, make_network
from slidelearn.optimizers import Optimizer
from slidelearn.start import OwnShare, start_network, trust
from slidelearn.wide import Wide, make_wide
from slidelearn.workers import Workers

__all__ = ["grow_network"]


def grow_network(
    network: Network, config: Config, X: csr_matrix, Y: csr_matrix, workers: Workers
) -> tuple[Network, OwnShare]:
    """Make room for the labels of Y (n, l) beyond those of the network, and give them a start.

    New output neurons start as in a new network, from the examples X (n, d) alone. The wide path
    gains every pair of a feature and a label that occurs for the first time: at its centroid where
    the label is new to the path, at 0 otherwise; so do the margins, at 0. The memory gains the
    examples. Then `Trainer.make_tables` has to file the labels anew.
    """
    known, n_new, d = network.n_labels, Y.shape[1] - network.n_labels, network.n_features
    counts = count_ids(Y.indices, Y.shape[1])
    nothing = np.zeros(Y.shape[1], np.float32)
    own = OwnShare(nothing, nothing.copy(), np.zeros(Y.shape[1], np.bool_))
    if network.wide is not None:
        fresh, shares = make_wide(X, Y, np.float32(config.wide) * trust(counts))
        wide, first_seen = _join_wide(network.wide, fresh, d)
        network = network._replace(wide=wide)
        own = own._replace(wide=np.where(first_seen, shares, np.float32(0)))
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
        path = network.wide
        if path is None:
            old = network.margins.path
            path, _ = _join_wide(old._replace(squares=old.weights), make_wide(X, Y, 0.0)[0], d)
        network = network._replace(margins=_spread(network.margins, path, d))
    return network, own


def _behind(Y: csr_matrix, first: int) -> csr_matrix:
    """Columns of Y (n, l) from the first on."""
    kept = keep_entries(Y, Y.indices >= first)
    return make_csr(kept.data, kept.indices - first, kept.indptr, (Y.shape[0], Y.shape[1] - first))


def _spread(margins: Margins, path: Wide, n_features: int) -> Margins:
    """Margins on all pairs of a path that has those of the margins and more: 0 on the new ones."""
    grown = make_margins(path, margins.strength)
    keys = _pair_keys(path, n_features)
    grown.path.weights[np.searchsorted(keys, _pair_keys(margins.path, n_features))] = (
        margins.path.weights
    )
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


def _join_wide(old: Wide, new: Wide, n_features: int) -> tuple[Wide, NDArray[np.bool_]]:
    """Add the pairs of a new wide path, of as many labels or more, to those of an old one.

    Returns the path, and which labels it had no pairs of before.
    """
    n_labels = len(new.indptr) - 1
    old_keys, new_keys = _pair_keys(old, n_features), _pair_keys(new, n_features)
    keys = np.union1d(old_keys, new_keys)  # ascending by label, then by feature
    places, new_places = np.searchsorted(keys, old_keys), np.searchsorted(keys, new_keys)
    first_seen = np.ones(n_labels, np.bool_)
    first_seen[: len(old.indptr) - 1] = np.diff(old.indptr) == 0
    starts = np.where(first_seen[new_keys // n_features], new.weights, np.float32(0))
    weights, squares = np.empty(len(keys), np.float32), np.empty(len(keys), np.float32)
    weights[new_places], squares[new_places] = starts, new.squares
    weights[places], squares[places] = old.weights, old.squares
    indptr = np.searchsorted(keys, np.arange(n_labels + 1, dtype=np.int64) * n_features)
    features = (keys % n_features).astype(np.int32)
    return Wide(indptr.astype(np.int64, copy=False), features, weights, squares), first_seen


def _pair_keys(wide: Wide, n_features: int) -> NDArray[np.int64]:
    """One ascending number for each pair of a label and a feature."""
    labels = np.repeat(np.arange(len(wide.indptr) - 1, dtype=np.int64), np.diff(wide.indptr))
    return labels * n_features + wide.features
