"""Divergence: training whose numbers are no numbers any more is given up, and says where."""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from slidelearn.errors import SlideError
from slidelearn.network import Network
from slidelearn.training import Trainer

__all__ = ["refuse_diverged"]

_RATES = ("lr", "hidden_lr", "wide_lr")


def refuse_diverged(trainer: Trainer, loss: float = 0.0) -> None:
    """Give up a run whose loss or weights are infinite or NaN.

    Raises
    ------
    SlideError
        Names the layers, their learning rates and what to do.
    """
    diverged = dict(_diverged(trainer.network))
    if math.isfinite(loss) and not diverged:
        return
    config, rates = trainer.config, tuple(diverged.values()) or _RATES
    where = f" in the {', '.join(diverged)}" if diverged else ""
    shown = ", ".join(f"{name} {getattr(config, name):g}" for name in rates)
    lower = ", ".join(f"{name} to {getattr(config, name) / 10:g}" for name in rates)
    raise SlideError(
        f"training diverged in epoch {trainer.epoch + 1} after {trainer.step} steps{where} "
        f"(loss {loss:g}) with {shown}; set {lower} or less, or scale the features"
    )


def _diverged(network: Network) -> Iterator[tuple[str, str]]:
    """Layers that hold something else than numbers, and the settings of their learning rates."""
    for depth, layer in enumerate(network.hidden):
        if not _is_finite(layer.weight):
            yield f"hidden layer {depth + 1}", "hidden_lr"
    if not _is_finite(network.output.weight):
        yield "output layer", "lr"
    if network.wide is not None and not _is_finite(network.wide.weights):
        yield "wide path", "wide_lr"


def _is_finite(weights: NDArray[np.float32]) -> bool:
    """Whether all are numbers; a sum tells, without an array of marks."""
    return bool(np.isfinite(weights.sum(dtype=np.float64)))
