"""The centroid start: output neurons begin where the hidden vectors of their examples are."""

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from slidelearn.network import Network, hidden_rows
from slidelearn.rows import Rows, sparse_rows
from slidelearn.workers import Workers, pieces

__all__ = ["centroid_start"]

_BLOCK = 8192  # examples whose hidden vectors are held at a time


def centroid_start(
    network: Network, X: csr_matrix, Y: csr_matrix, temperature: float, workers: Workers
) -> None:
    """Set every output neuron to the mean hidden vector of its label's examples, in place.

    Hidden vectors are scaled to length 1 and the mean of all of them is subtracted, or else every
    logit would hold the same large part, which the first steps would have to unlearn at the
    neurons' expense. The rest is scaled to the length ``temperature``. A label without examples
    starts at zero.
    """
    weight = network.output.weight
    mean = np.zeros(weight.shape[1] - 1, np.float64)
    for start in range(0, X.shape[0], _BLOCK):
        block_X, block_Y = X[start : start + _BLOCK], Y[start : start + _BLOCK]

        def compute(first: int, last: int, block: csr_matrix = block_X) -> NDArray[np.float32]:
            return _unit_hidden(network, block[first:last])

        hidden = np.concatenate(workers.map(compute, pieces(block_X.shape[0])))
        mean += hidden.sum(axis=0)
        _add_to_labels(block_Y.indptr, block_Y.indices, hidden, weight)
    counts = np.bincount(Y.indices, minlength=Y.shape[1]).astype(np.float32)
    mean /= max(X.shape[0], 1)
    _scale(weight, counts, mean.astype(np.float32), np.float32(temperature))


def _unit_hidden(network: Network, X: csr_matrix) -> NDArray[np.float32]:
    """Hidden vectors of examples (n, width), scaled to length 1; zeros stay."""
    h: Rows = hidden_rows(network, sparse_rows(X))
    hidden = h.matrix()[:, :-1] if h.dense else h.csr().toarray()
    lengths = np.sqrt(np.einsum("ij,ij->i", hidden, hidden))
    return hidden / np.maximum(lengths, np.finfo(np.float32).tiny)[:, None]  # type: ignore[no-any-return]


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
    weight: NDArray[np.float32],
    counts: NDArray[np.float32],
    mean: NDArray[np.float32],
    length: np.float32,
) -> None:
    """Turn sums of hidden vectors into centred neurons (N, d + 1) of one length.

    The bias takes back what the mean hidden vector adds to the logit.
    """
    d = weight.shape[1] - 1
    for n in range(len(weight)):
        if counts[n] == 0:
            continue
        squares = np.float32(0)
        for j in range(d):
            weight[n, j] = weight[n, j] / counts[n] - mean[j]
            squares += weight[n, j] * weight[n, j]
        factor = length / np.sqrt(squares) if squares > 0 else np.float32(0)
        bias = np.float32(0)
        for j in range(d):
            weight[n, j] *= factor
            bias -= weight[n, j] * mean[j]
        weight[n, d] = bias
