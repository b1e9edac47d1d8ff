"""The start: output neurons begin where the examples of their labels are."""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from slidelearn.config import Config
from slidelearn.csr import count_ids, slice_rows
from slidelearn.leave_one_out import trust
from slidelearn.losses import Strata
from slidelearn.network import Network, hidden_rows
from slidelearn.rows import BIAS_INPUT, Rows, sparse_rows
from slidelearn.wide import make_wide, scale_labels
from slidelearn.workers import Workers, pieces

__all__ = ["OwnShare", "centre_hidden", "leave_out", "own_lengths", "start_network"]

_BLOCK = 2048  # examples whose hidden vectors are held at a time


def centre_hidden(network: Network, X: csr_matrix) -> Network:
    """Return the network with the mean of its last hidden activations on X (n, d) subtracted."""
    h = hidden_rows(network, sparse_rows(X))
    if not h.dense or X.shape[0] == 0:
        return network
    return network._replace(mean=network.mean + h.matrix()[:, :-1].mean(axis=0))


class OwnShare(NamedTuple):
    """What the start holds of the very examples that it was made from, by label.

    An example is close to the centroid that it is part of, and the closer the fewer examples there
    are. A network that trains on such scores learns little from rare labels, and scores of new
    examples are unlike them. So an example's own part of its labels is left out in training
    (P@1 on commits: 55.2 with it and 56.0 without). A label of which an example is the only one
    is no target: nothing is left that could find it.

    Attributes
    ----------
    deep : float32 array of shape (n_labels,)
        The part is this times the hidden vector's product with itself as it was, at length 1.
    wide : float32 array of shape (n_labels,)
        The part is this times the squared length of the features.
    lone : bool array of shape (n_labels,)
        Labels with one example.
    """

    deep: NDArray[np.float32]
    wide: NDArray[np.float32]
    lone: NDArray[np.bool_]


def start_network(
    network: Network, config: Config, X: csr_matrix, Y: csr_matrix, workers: Workers
) -> tuple[Network, OwnShare]:
    """Give the output neurons of labels Y (n, l) their start, and the wide path if there is one.

    Returns the network, and what its start holds of the examples.
    """
    nothing = np.zeros(Y.shape[1], np.float32)
    counts = count_ids(Y.indices, Y.shape[1])
    own = OwnShare(nothing, nothing, (counts == 1) & config.starts_at_examples)
    if config.wide:
        wide, own_wide = make_wide(X, Y, config.wide)
        scale_labels(wide, own_wide, trust(counts, config.doubt))
        network, own = network._replace(wide=wide), own._replace(wide=own_wide)
    if config.start == "centroid":
        lengths = np.float32(config.temperature) * trust(counts, config.doubt)
        own = own._replace(deep=centroid_start(network, X, Y, lengths, workers))
    label_prior(network, counts, config.prior)
    return network, own


@njit(cache=True, nogil=True)
def leave_out(
    x: Rows,
    lengths: NDArray[np.float32],
    strata: Strata,
    own: OwnShare,
    keep: float,
    out: NDArray[np.float32],
) -> None:
    """Take from the logits of an example's labels, out (n_pairs,), what is the example's own.

    ``keep`` is the share of the features x that dropout left in, which scaled these up;
    ``lengths`` (n,) are from `own_lengths`.
    """
    for i in range(len(strata.indptr) - 1):
        wide, deep = np.float32(0), lengths[i]
        for e in range(x.indptr[i], x.indptr[i + 1]):
            wide += x.values[e] * x.values[e]
        wide *= np.float32(keep)
        for p in range(strata.indptr[i], strata.indptr[i] + strata.n_labels[i]):
            n = strata.neurons[p]
            out[p] -= own.wide[n] * wide + own.deep[n] * deep


@njit(cache=True, nogil=True)
def own_lengths(h: Rows, z: NDArray[np.float32], mean: NDArray[np.float32]) -> NDArray[np.float32]:
    """Products of hidden vectors h with themselves before dropout, these at length 1: (n,).

    ``z`` is what ReLU turned into h, before dropout and without ``mean``. The length of h itself
    would leave out 1.4 times too much at a dropout of 0.5.
    """
    out, flat = np.zeros(len(h.indptr) - 1, np.float32), z.ravel()
    for i in range(len(out)):
        product, squares, constants = np.float32(0), np.float32(0), i * int(h.dense)
        for e in range(h.indptr[i], h.indptr[i + 1] - int(h.dense)):
            column = e - h.indptr[i] if h.dense else h.indices[e]
            clean = max(flat[e - constants], np.float32(0)) - mean[column]
            product += clean * h.values[e]
            squares += clean * clean
        if squares > 0:
            out[i] = product / np.sqrt(squares)
    return out


def centroid_start(
    network: Network,
    X: csr_matrix,
    Y: csr_matrix,
    lengths: NDArray[np.float32],
    workers: Workers,
) -> NDArray[np.float32]:
    """Set every output neuron to the mean hidden vector of its label's examples, in place.

    Hidden vectors count with length 1. Neurons get the length at which the logit of an example
    that points their way is their ``lengths`` (l,) on average; those without examples get zero.
    Returns by how much every hidden vector was scaled before it was added to its labels, (l,).
    """
    weight = network.output.weight
    total = 0.0
    for start in range(0, X.shape[0], _BLOCK):
        block_X, block_Y = (slice_rows(part, start, start + _BLOCK) for part in (X, Y))

        def compute(first: int, last: int, block: csr_matrix = block_X) -> NDArray[np.float32]:
            return _hidden(network, slice_rows(block, first, last))

        hidden = np.concatenate(workers.map(compute, pieces(block_X.shape[0])))
        norms = np.sqrt(np.einsum("ij,ij->i", hidden, hidden))
        total += float(norms.sum(dtype=np.float64))
        hidden /= np.maximum(norms, np.finfo(np.float32).tiny)[:, None]
        _add_to_labels(block_Y.indptr, block_Y.indices, hidden, weight)
    own = np.zeros(len(weight), np.float32)
    if total > 0:
        _scale(weight, lengths * np.float32(X.shape[0] / total), own)
    return own


def _hidden(network: Network, X: csr_matrix) -> NDArray[np.float32]:
    """Hidden vectors of examples, (n, width)."""
    h = hidden_rows(network, sparse_rows(X))
    return h.matrix()[:, :-1].copy() if h.dense else h.csr().toarray()


def label_prior(network: Network, counts: NDArray[np.integer], weight: float) -> None:
    """Start the bias of every label at ``weight`` times the logarithm of its count, in place.

    Centroids of one length say which examples a label goes with, but not how often it does. A label
    without examples counts as a tenth of one.
    """
    network.output.weight[:, -1] = weight / BIAS_INPUT * np.log(np.maximum(counts, 0.1))


@njit(cache=True, nogil=True)
def _add_to_labels(
    indptr: NDArray[np.integer],
    labels: NDArray[np.integer],
    hidden: NDArray[np.float32],
    weight: NDArray[np.float32],
) -> None:
    """Add every example's hidden vector (n, d) to the neurons (N, d + 1) of its labels.

    One thread in the order of the examples, so the sums do not depend on threads.
    """
    d = hidden.shape[1]
    for i in range(len(indptr) - 1):
        for label in labels[indptr[i] : indptr[i + 1]]:
            for j in range(d):
                weight[label, j] += hidden[i, j]


@njit(cache=True, nogil=True)
def _scale(
    weight: NDArray[np.float32], lengths: NDArray[np.float32], factors: NDArray[np.float32]
) -> None:
    """Scale neurons (N, d + 1) to their lengths by factors (N,); zeros stay. Biases are zero."""
    for n in range(len(weight)):
        squares = np.float32(0)
        for j in range(weight.shape[1]):
            squares += weight[n, j] * weight[n, j]
        if squares > 0:
            factors[n] = lengths[n] / np.sqrt(squares)
            for j in range(weight.shape[1]):
                weight[n, j] *= factors[n]
