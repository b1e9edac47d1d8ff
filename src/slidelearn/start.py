"""The centroid start: output neurons begin where the hidden vectors of their examples are."""

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from slidelearn.network import Network, hidden_rows
from slidelearn.rows import sparse_rows
from slidelearn.workers import Workers, pieces

__all__ = ["centre_hidden", "centroid_start"]

_BLOCK = 8192  # examples whose hidden vectors are held at a time


def centre_hidden(network: Network, X: csr_matrix) -> Network:
    """Return the network with the mean of its last hidden activations on X (n, d) subtracted."""
    h = hidden_rows(network, sparse_rows(X))
    if not h.dense or X.shape[0] == 0:
        return network
    return network._replace(mean=network.mean + h.matrix()[:, :-1].mean(axis=0))


def centroid_start(
    network: Network, X: csr_matrix, Y: csr_matrix, temperature: float, workers: Workers
) -> None:
    """Set every output neuron to the mean hidden vector of its label's examples, in place.

    Hidden vectors count with length 1. Neurons get the length at which the logit of an example
    that points their way is ``temperature`` on average. A label without examples starts at zero.
    """
    weight = network.output.weight
    total = 0.0
    for start in range(0, X.shape[0], _BLOCK):
        block_X, block_Y = X[start : start + _BLOCK], Y[start : start + _BLOCK]

        def compute(first: int, last: int, block: csr_matrix = block_X) -> NDArray[np.float32]:
            return _hidden(network, block[first:last])

        hidden = np.concatenate(workers.map(compute, pieces(block_X.shape[0])))
        lengths = np.sqrt(np.einsum("ij,ij->i", hidden, hidden))
        total += float(lengths.sum(dtype=np.float64))
        hidden /= np.maximum(lengths, np.finfo(np.float32).tiny)[:, None]
        _add_to_labels(block_Y.indptr, block_Y.indices, hidden, weight)
    if total > 0:
        _scale(weight, np.float32(temperature * X.shape[0] / total))


def _hidden(network: Network, X: csr_matrix) -> NDArray[np.float32]:
    """Hidden vectors of examples, (n, width)."""
    h = hidden_rows(network, sparse_rows(X))
    return h.matrix()[:, :-1].copy() if h.dense else h.csr().toarray()


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
def _scale(weight: NDArray[np.float32], length: np.float32) -> None:
    """Scale neurons (N, d + 1) to one length; zeros stay. Their biases are zero."""
    for n in range(len(weight)):
        squares = np.float32(0)
        for j in range(weight.shape[1]):
            squares += weight[n, j] * weight[n, j]
        if squares > 0:
            factor = length / np.sqrt(squares)
            for j in range(weight.shape[1]):
                weight[n, j] *= factor
