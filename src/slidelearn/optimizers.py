"""Optimizers: how one row of weights moves along its gradient; only touched rows are visited."""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["Optimizer", "Step", "make_optimizer", "move_row", "state_shapes"]

_ADAGRAD, _SGD, _ADAM = 0, 1, 2
_KINDS = {"adagrad": _ADAGRAD, "sgd": _SGD, "adam": _ADAM}
# Mean squared gradient that a row is taken to have seen before training. From zero, the first
# gradient of a row, however small, would move it by a whole learning rate: random negatives then
# push neurons around at random (P@1 fell from 22 to 1 on 50,000 commits).
_ADAGRAD_START = 1e-2
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


class Optimizer(NamedTuple):
    """State of an optimizer for weights (n, d); arrays that its kind does not need are empty.

    Attributes
    ----------
    kind : int
        0 row-wise Adagrad, 1 SGD, 2 lazy Adam.
    squares : float32 array of shape (n,)
        Adagrad: sum over steps of a row's mean squared gradient.
    first, second : float32 arrays of shape (n, d)
        Adam's moments. A row's moments decay only in steps that touch the row, which is what
        keeps a step sub-linear; the bias correction counts a row's own steps.
    steps : int64 array of shape (n,)
        Adam: steps that touched each row.
    """

    kind: int
    squares: NDArray[np.float32]
    first: NDArray[np.float32]
    second: NDArray[np.float32]
    steps: NDArray[np.int64]


class Step(NamedTuple):
    """What one step applies: learning rate, and the share of weights that decays at rate 1."""

    lr: float
    decay: float


def make_optimizer(name: str, shape: tuple[int, int]) -> Optimizer:
    """Make the starting state of an optimizer ("adagrad", "sgd" or "adam") for weights (n, d).

    Examples
    --------
    >>> make_optimizer("adagrad", (3, 2)).squares.shape
    (3,)
    """
    kind = _KINDS[name]
    rows = shape[0] if kind == _ADAGRAD else 0
    moments = shape if kind == _ADAM else (0, 0)
    return Optimizer(
        kind,
        np.full(rows, _ADAGRAD_START, np.float32),
        np.zeros(moments, np.float32),
        np.zeros(moments, np.float32),
        np.zeros(moments[0], np.int64),
    )


def state_shapes(name: str, shape: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    """Shapes of the state's arrays for weights (n, d), without making them.

    Examples
    --------
    >>> state_shapes("adagrad", (3, 2))
    {'squares': (3,), 'first': (0, 0), 'second': (0, 0), 'steps': (0,)}
    """
    pattern = make_optimizer(name, (1, 1))  # 1 where an array is as long as the weights, or 0
    return {
        state: tuple(one * n for one, n in zip(getattr(pattern, state).shape, shape, strict=False))
        for state in Optimizer._fields[1:]
    }


@njit(cache=True, nogil=True, fastmath=True, forceinline=True)
def move_row(
    weight: NDArray[np.float32],
    optimizer: Optimizer,
    row: int,
    gradient: NDArray[np.float32],
    step: Step,
) -> None:
    """Move one row of weights (n, d) along its gradient (d,).

    Decay comes with the step, so rows that no example touched keep their weights.
    """
    target, d = weight[row], len(gradient)
    lr, decay = np.float32(step.lr), np.float32(step.lr * step.decay)
    if optimizer.kind == _ADAGRAD:
        total = np.float32(0)
        for j in range(d):
            total += gradient[j] * gradient[j]
        optimizer.squares[row] += total / np.float32(d)
        rate = lr / np.sqrt(optimizer.squares[row])
        for j in range(d):
            target[j] -= rate * gradient[j] + decay * target[j]
    elif optimizer.kind == _SGD:
        for j in range(d):
            target[j] -= lr * gradient[j] + decay * target[j]
    else:
        _move_adam(target, optimizer, row, gradient, lr, decay)


@njit(cache=True, nogil=True, fastmath=True, forceinline=True)
def _move_adam(
    target: NDArray[np.float32],
    optimizer: Optimizer,
    row: int,
    gradient: NDArray[np.float32],
    lr: np.float32,
    decay: np.float32,
) -> None:
    """Adam on one row (d,); see `Optimizer` for how it stays lazy."""
    first, second = optimizer.first[row], optimizer.second[row]
    optimizer.steps[row] += 1
    age = optimizer.steps[row]
    scale = np.float32(1 / (1 - _BETA1**age))
    spread = np.float32(1 / (1 - _BETA2**age))
    for j in range(len(gradient)):
        g = gradient[j]
        first[j] += np.float32(1 - _BETA1) * (g - first[j])
        second[j] += np.float32(1 - _BETA2) * (g * g - second[j])
        size = np.sqrt(second[j] * spread) + np.float32(_EPSILON)
        target[j] -= lr * first[j] * scale / size + decay * target[j]
