"""The model: a trained network with the names and facts that make it usable on its own."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from slidelearn.config import Config
from slidelearn.csr import with_values
from slidelearn.errors import ConfigError, ModelError
from slidelearn.network import UNWEIGHTED, Network
from slidelearn.predicting import TopK, all_scores, predict_topk
from slidelearn.reach import DEEPEST, Reach, check_recall, choose_reach, reaches_for
from slidelearn.weighting import raise_values
from slidelearn.workers import PIECE, Workers

__all__ = ["Model", "prepare_features", "scale_rows"]


_USUAL_RECALL = 0.99
_KEPT = 64  # scales that a model remembers
_DAMAGED = "the reaches among the facts of the model are damaged"


@dataclass
class Model:
    """What training leaves behind and a model folder holds.

    Attributes
    ----------
    config : Config
        Every setting of the run, with the rules' choices filled in.
    network : Network
        What was learned, its hash tables included.
    label_names, feature_names : list of str, optional
        One name for each output neuron, and for each input.
    inverse_propensity : float64 array of shape (n_labels,)
        Weights of PSP@k, from the labels' frequencies in the training data.
    facts : dict
        Plain values about the run: ``n_examples``, ``epochs``, ``train_seconds``...
    """

    config: Config
    network: Network
    label_names: list[str] | None
    feature_names: list[str] | None
    inverse_propensity: NDArray[np.float64]
    facts: dict[str, Any] = field(default_factory=dict)
    # By recall and k: to choose one takes 26 us, and every single prediction asks.
    _scales: dict[tuple[float | None, int], float | None] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def hashed(self) -> bool:
        """Whether the output layer has tables, so that prediction need not score every neuron."""
        return self.network.indexes[-1] is not None

    @property
    def reaches(self) -> list[Reach]:
        """What searches of every scale find of the exact top, measured after training.

        Raises
        ------
        ModelError
            If the facts of the model hold something else.
        """
        try:
            return [
                Reach(float(scale), float(recall), float(checked), *map(int, k))
                for scale, recall, checked, *k in self.facts.get("reaches", [])
            ]
        except (TypeError, ValueError):
            raise ModelError(_DAMAGED) from None

    def predict_topk(
        self,
        X: csr_matrix,
        k: int,
        *,
        exact: bool = False,
        recall: float | None = None,
        threads: int = 0,
    ) -> TopK:
        """Find the k best labels of every example X (n, d), canonical float32 CSR, unscaled.

        With a ``recall``, the search goes as far as it must to find that share of the exact top k;
        see `reach_for`. Without, see `usual_scale`.
        """
        scale = None if exact else self._scale(recall, k)
        ready, network = self.prepare(X), self.network
        n_threads = 1 if X.shape[0] <= PIECE else threads or self.config.n_threads
        in_kernel = network.simple and network.searches_postings and scale is not None
        with Workers(n_threads, blas=not in_kernel) as workers:
            return predict_topk(
                network, ready, k, exact=scale is None, workers=workers, scale=scale or 1.0
            )

    def _scale(self, recall: float | None, k: int) -> float | None:
        """How far a search for k goes, for a recall or as usual; None for a scan."""
        key = recall, k
        if key in (known := self._scales):
            return known[key]
        if recall is None:
            scale: float | None = self.usual_scale(k)
        else:
            reach = self.reach_for(recall, k)
            scale = None if reach is None else reach.scale
        self._scales = {**known, key: scale} if len(known) < _KEPT else {key: scale}
        return scale

    def usual_scale(self, k: int) -> float:
        """How far a search for k goes if nobody says: as it must for a recall of 0.99.

        Or as far as was tried; for more than 20, in proportion further than for these. Where
        nothing was measured, and where hash functions alone find neurons, as the settings say.
        """
        index, more = self.network.indexes[-1], max(1.0, k / DEEPEST)
        if index is None or not (index.ranked or self.network.postings is not None):
            return more
        reaches = self.reaches
        if not reaches:
            return more
        own = reaches_for(reaches, min(k, max(reach.k for reach in reaches)))
        return more * (choose_reach(own, _USUAL_RECALL) or own[-1]).scale

    def reach_for(self, recall: float, k: int = 5) -> Reach | None:
        """How far a search must go for a share of the exact top k; None where only a scan does.

        Raises
        ------
        ConfigError
            If it is no share, or nothing was measured after the training.
        """
        check_recall(recall)
        if not self.hashed:
            return None
        reaches = self.reaches
        if not reaches:
            raise ConfigError(
                "the recall of this model was not measured, since its training was interrupted or "
                "an older version trained it; train it again, or ask for no recall"
            )
        return choose_reach(reaches_for(reaches, min(k, self.network.n_labels)), recall)

    def prepare(self, X: csr_matrix) -> csr_matrix:
        """Features X (n, d) as the network was trained on them; see `prepare_features`."""
        return prepare_features(X, self.config, self.network.feature_weights)

    def scores(self, X: csr_matrix, threads: int = 0) -> NDArray[np.float32]:
        """Logits of every label, dense (n, n_labels)."""
        with Workers(threads or self.config.n_threads) as workers:
            return all_scores(self.network, self.prepare(X), workers)


def prepare_features(
    X: csr_matrix, config: Config, weights: NDArray[np.float32] = UNWEIGHTED
) -> csr_matrix:
    """Raise and weigh features, and scale every example to length 1, if the settings say so.

    The caller's X (n, d) does not change. ``weights`` are a network's.
    """
    if not config.normalize:
        return X
    ready = with_values(X, X.data.copy())
    scale_rows(ready, weights, config.value_power)
    return ready


def scale_rows(
    X: csr_matrix, weights: NDArray[np.float32] = UNWEIGHTED, power: float | None = None
) -> None:
    """Raise features to a power, multiply them by weights (d,), scale rows to length 1, in place.

    Rows of zeros stay. Weights of shape (0,) are 1, and so is a power that nobody chose.
    """
    _scale(X.indptr, X.indices, X.data, weights, 1.0 if power is None else float(power))


@njit(cache=True, nogil=True)
def _scale(
    indptr: NDArray[np.integer],
    indices: NDArray[np.integer],
    values: NDArray[np.float32],
    weights: NDArray[np.float32],
    power: float,
) -> None:
    """Raise, multiply by weights, if any; divide every row by the root of its sum of squares."""
    raise_values(values[indptr[0] : indptr[-1]], power)
    if len(weights):
        for e in range(indptr[0], indptr[-1]):
            values[e] *= weights[indices[e]]
    for i in range(len(indptr) - 1):
        total = 0.0
        for e in range(indptr[i], indptr[i + 1]):
            total += np.float64(values[e]) ** 2
        if total > 0:
            scale = np.float32(1 / np.sqrt(total))
            for e in range(indptr[i], indptr[i + 1]):
                values[e] *= scale
