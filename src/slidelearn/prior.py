"""The prior: a bias that labels share with those that occur about as often.

A rare label's own parameters hardly move in an epoch, so they cannot unlearn that its few examples
make it look closer than it is. The bias of its class moves with every step.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from slidelearn.losses import Strata
from slidelearn.rows import BIAS_INPUT

__all__ = [
    "Prior",
    "add_prior",
    "fold_prior",
    "make_prior",
    "move_prior",
    "pair_classes",
    "prior_gradient",
]

_PER_DOUBLING = 2  # classes for every doubling of the count


class Prior(NamedTuple):
    """Biases by how often labels occur in the training data.

    Attributes
    ----------
    classes : int32 array of shape (n_labels,)
        Which bias a label has.
    target_classes : int32 array of shape (n_labels,)
        Which bias it has for an example whose target it is.
    bias : float32 array of shape (n_classes,)
        Added to logits while training; `fold_prior` moves it into the output layer.
    squares : float32 array of shape (n_classes,)
        Sum of squared gradients (Adagrad).
    """

    classes: NDArray[np.int32]
    target_classes: NDArray[np.int32]
    bias: NDArray[np.float32]
    squares: NDArray[np.float32]


def make_prior(counts: NDArray[np.integer], own: int) -> Prior:
    """Class labels by the logarithm of their counts (n_labels,).

    A new example meets labels as often as an example of the training data that its labels do not
    count (Good-Turing). So ``own``, 1 or 0, is what an example adds to the counts of its targets.

    Examples
    --------
    >>> prior = make_prior(np.array([0, 1, 1, 3, 100]), own=1)
    >>> prior.classes.tolist(), prior.target_classes.tolist()
    ([0, 2, 2, 4, 13], [0, 0, 0, 3, 13])
    """
    classes, target_classes = _classes(counts), _classes(np.maximum(counts - own, 0))
    n_classes = int(classes.max(initial=0)) + 1
    bias, squares = np.zeros(n_classes, np.float32), np.ones(n_classes, np.float32)
    return Prior(classes, target_classes, bias, squares)


def _classes(counts: NDArray[np.integer]) -> NDArray[np.int32]:
    """Class of every count."""
    classes: NDArray[np.float64] = np.floor(_PER_DOUBLING * np.log2(counts + 1.0))
    return classes.astype(np.int32)


@njit(cache=True, nogil=True)
def pair_classes(prior: Prior, strata: Strata) -> NDArray[np.int32]:
    """Class of every pair, (n_pairs,)."""
    classes = prior.classes[strata.neurons]
    for i in range(len(strata.indptr) - 1):
        for p in range(strata.indptr[i], strata.indptr[i] + strata.n_targets[i]):
            classes[p] = prior.target_classes[strata.neurons[p]]
    return classes


@njit(cache=True, nogil=True)
def add_prior(
    prior: Prior,
    strata: Strata,
    classes: NDArray[np.int32],
    pair_logits: NDArray[np.float32],
    shared_logits: NDArray[np.float32],
) -> None:
    """Add the biases to logits (n_pairs,) and (n, m); ``classes`` (n_pairs,) are of the pairs."""
    for p in range(len(pair_logits)):
        pair_logits[p] += prior.bias[classes[p]]
    for j in range(shared_logits.shape[1]):
        bias = prior.bias[prior.classes[strata.shared[j]]]
        for i in range(shared_logits.shape[0]):
            shared_logits[i, j] += bias


@njit(cache=True, nogil=True)
def prior_gradient(
    prior: Prior,
    strata: Strata,
    classes: NDArray[np.int32],
    pair_deltas: NDArray[np.float32],
    shared_deltas: NDArray[np.float32],
) -> NDArray[np.float64]:
    """Gradient of the biases, (n_classes,), from those of the logits; see `add_prior`."""
    gradient = np.zeros(len(prior.bias), np.float64)
    for p in range(len(pair_deltas)):
        gradient[classes[p]] += pair_deltas[p]
    for i in range(shared_deltas.shape[0]):
        for j in range(shared_deltas.shape[1]):
            gradient[prior.classes[strata.shared[j]]] += shared_deltas[i, j]
    return gradient


def move_prior(prior: Prior, gradient: NDArray[np.float64], lr: float) -> None:
    """Adagrad on the biases, in place."""
    prior.squares[:] += np.square(gradient)
    prior.bias[:] -= lr * gradient / np.sqrt(prior.squares)


def fold_prior(prior: Prior, weight: NDArray[np.float32]) -> None:
    """Move the biases into those of neuron-major weights (n_labels, d + 1); logits stay."""
    weight[:, -1] += prior.bias[prior.classes] / BIAS_INPUT
    prior.bias[:] = 0
