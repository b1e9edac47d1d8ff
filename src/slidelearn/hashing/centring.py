"""Centring: make angles between neurons and queries tell the largest inner products."""

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["Centring"]


class Centring(NamedTuple):
    """Transforms neurons and queries so that hashing separates them, and ranks neurons as before.

    A neuron with weights w and bias b answers a query h with w.h + b. Trained neurons share a large
    mean, and so do hidden activations, which crowds them into few buckets. Both means go:
    a neuron becomes [w - mean_w ; (b + w.mean_h - mean_bias) / scale], a query
    [h - mean_h ; scale]. Their inner product is w.h + b plus a number that is the same for
    all neurons.

    ``scale`` trades length of the queries for length of the neurons. It is chosen so that the last
    coordinate takes the same share of the squared length on both sides, which makes the product of
    the mean squared lengths least: scale**2 = |h| * |bias| / |w|, each the root mean square length
    after centring. Equal biases give a scale of 0: the coordinate is then 0 on both sides.

    Attributes
    ----------
    mean_w, mean_h : float32 array of shape (d,)
        Mean neuron and mean query.
    mean_bias : float
        Mean of b + w.mean_h.
    scale : float
        Last coordinate of every query.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> W, b, H = rng.random((9, 4)), rng.random(9), rng.random((3, 4))
    >>> centring = Centring.fit(W, b, H)
    >>> scores = centring.queries(H) @ centring.neurons(W, b).T
    >>> bool((scores.argmax(1) == (H @ W.T + b).argmax(1)).all())
    True
    """

    mean_w: NDArray[np.float32]
    mean_h: NDArray[np.float32]
    mean_bias: float
    scale: float

    @classmethod
    def fit(cls, W: NDArray[np.floating], b: NDArray[np.floating], H: NDArray[np.floating]) -> Self:
        """Measure the means of neurons W (N, d), b (N,) and of a sample of queries H (n, d)."""
        mean_w = W.mean(axis=0, dtype=np.float64).astype(np.float32)
        mean_h = H.mean(axis=0, dtype=np.float64).astype(np.float32)
        bias = b + W @ mean_h
        mean_bias = float(bias.mean(dtype=np.float64))
        w_length, h_length = _spread(W, mean_w), _spread(H, mean_h)
        bias_length = float(np.sqrt(np.mean((bias - mean_bias) ** 2, dtype=np.float64)))
        scale = np.sqrt(h_length * bias_length / w_length) if w_length > 0 else bias_length
        return cls(mean_w, mean_h, mean_bias, float(scale))

    def neurons(self, W: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float32]:
        """Transform neurons W (N, d) and b (N,) to float32 (N, d + 1)."""
        out = np.empty((W.shape[0], W.shape[1] + 1), np.float32)
        np.subtract(W, self.mean_w, out=out[:, :-1], casting="same_kind")
        out[:, -1] = (b + W @ self.mean_h - self.mean_bias) / self.scale if self.scale > 0 else 0
        return out

    def queries(self, H: NDArray[np.floating]) -> NDArray[np.float32]:
        """Transform queries H (n, d) to float32 (n, d + 1)."""
        out = np.empty((H.shape[0], H.shape[1] + 1), np.float32)
        np.subtract(H, self.mean_h, out=out[:, :-1], casting="same_kind")
        out[:, -1] = self.scale
        return out


def _spread(rows: NDArray[np.floating], mean: NDArray[np.float32]) -> float:
    """Root mean square distance of rows (n, d) from their mean (d,)."""
    squares = float(np.einsum("ij,ij->", rows, rows, dtype=np.float64)) / len(rows)
    return float(np.sqrt(max(0.0, squares - float(np.square(mean, dtype=np.float64).sum()))))
