"""What every contestant does; imports NumPy and SciPy alone, to run in any environment."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, load_npz

K = 5  # labels that are predicted
CURVE_EXAMPLES = 2000  # of the test data, that points of a curve are measured on


class Contestant:
    """A method with its authors' recommended settings.

    Attributes
    ----------
    settings : str
        What a reader has to know to repeat the run.
    curve : list of (seconds, predictions)
        How far an iterative method was when; filled by `train`.
    """

    settings = ""

    def __init__(self, data: Path, model: Path, threads: int, budget: float) -> None:
        self.data, self.model, self.threads, self.budget = data, model, threads, budget
        self.curve: list[tuple[float, np.ndarray]] = []
        self.paused = 0.0  # seconds of training that went into points of the curve

    def load_training_data(self) -> tuple[csr_matrix, csr_matrix]:
        """Features, of length 1, and labels."""
        return load_rows(self.data / "train_X.npz"), load_rows(self.data / "train_Y.npz")

    def prepare(self, X: csr_matrix, Y: csr_matrix) -> None:
        """Do what is done once on a machine, not once for each model."""

    def train(self, X: csr_matrix, Y: csr_matrix) -> None:
        """Train and leave a model in the folder."""
        raise NotImplementedError

    def load(self) -> None:
        """Load the model."""
        raise NotImplementedError

    def predict(self, X: csr_matrix) -> np.ndarray:
        """The best labels, int (n, K), -1 where there are fewer."""
        raise NotImplementedError

    def note_curve(self, seconds: float) -> None:
        """Note what is predicted after so many seconds of training."""
        began = time.perf_counter()
        X = load_rows(self.data / "test_X.npz")[:CURVE_EXAMPLES]
        self.curve.append((seconds, self.predict(X)))
        self.paused += time.perf_counter() - began


def load_rows(path: Path) -> csr_matrix:
    """A matrix whose rows are examples."""
    return csr_matrix(load_npz(path))


def pad(rows: list[Any]) -> np.ndarray:
    """Ranked labels of every example as one array (n, K)."""
    out = np.full((len(rows), K), -1, np.int64)
    for i, row in enumerate(rows):
        out[i, : min(len(row), K)] = list(row)[:K]
    return out


def label_lists(Y: csr_matrix) -> list[list[int]]:
    """The labels of every example."""
    return [part.tolist() for part in np.split(Y.indices, Y.indptr[1:-1])]
