"""slidelearn itself, with its defaults."""

import time

import numpy as np
from scipy.sparse import csr_matrix

from contest.contestant import Contestant, K
from slidelearn.compiling import compile_kernels
from slidelearn.datasets import Dataset
from slidelearn.fitting import fit_model
from slidelearn.model_file import load_model, save_model
from slidelearn.rules import choose_config
from slidelearn.training import Progress, Trainer
from slidelearn.workers import Workers

_POINTS = (0.1, 0.25, 0.5, 0.75, 1.0)  # shares of an epoch with a point of the curve


class Slide(Contestant):
    """Default settings, hashed prediction."""

    settings = "defaults; hashed prediction; kernels compiled before"
    exact = False

    def prepare(self, X: csr_matrix, Y: csr_matrix) -> None:
        compile_kernels(choose_config(X, Y, self._overrides()), X.shape[1], Y.shape[1])

    def train(self, X: csr_matrix, Y: csr_matrix) -> None:
        save_model(fit_model(Dataset(X, Y), self._overrides()), self.model)

    def _overrides(self) -> dict[str, int]:
        return {"threads": self.threads}

    def load(self) -> None:
        self.network = load_model(self.model)

    def predict(self, X: csr_matrix) -> np.ndarray:
        found = self.network.predict_topk(X, K, exact=self.exact, threads=self.threads)
        return found.labels


class SlideExact(Slide):
    """The same, scoring every label."""

    settings = "defaults; exact prediction; kernels compiled before"
    exact = True


class SlideCurve(Slide):
    """The same training, interrupted for points of its curve; exact prediction."""

    settings = "defaults, interrupted; exact prediction"
    exact = True

    def train(self, X: csr_matrix, Y: csr_matrix) -> None:
        from slidelearn.model import Model

        config = choose_config(X, Y, self._overrides())
        ones, began = np.ones(Y.shape[1]), time.perf_counter()
        with Workers(self.threads) as workers:
            trainer = Trainer.start(config, X, Y, workers)
            self.network = Model(config, trainer.network, None, None, ones)
            self.note_curve(time.perf_counter() - began)
            for epoch in range(config.epochs):
                pending = [epoch + share for share in _POINTS]

                def show(progress: Progress, epoch: int = epoch, left: list = pending) -> None:
                    if epoch + progress.done / progress.total >= left[0]:
                        left.pop(0)
                        self.note_curve(time.perf_counter() - began - self.paused)

                trainer.run_epoch(X, Y, workers, show=show)
            trainer.fit_index(len(config.hidden), X, workers)
        self.network.network = trainer.network
        save_model(self.network, self.model)
