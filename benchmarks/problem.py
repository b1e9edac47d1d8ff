"""A problem: a folder with training and test data, and a validation part of the training data."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from slidelearn.datasets import Dataset, load_dataset
from slidelearn.errors import DataError

__all__ = ["Split", "find_part", "load_part", "split_validation"]

_HELD_OUT = 0.1  # share of the training examples that validate
_MOST_HELD_OUT = 10_000


class Split(NamedTuple):
    """Examples to train on and examples to validate with."""

    train: Dataset
    valid: Dataset


def find_part(folder: Path, part: str) -> Path:
    """Name the file of a part, "train" or "test", in whichever format it is there."""
    found = sorted(folder.glob(f"{part}.*"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise DataError(f"{folder}: expected one file named {part}.*, found {names}")
    return found[0]


def load_part(folder: Path, part: str) -> Dataset:
    """Load the training or the test data of a folder."""
    return load_dataset(find_part(folder, part))


def split_validation(data: Dataset, limit: int | None = None) -> Split:
    """Hold out a random tenth of the examples, at most 10,000; train on at most ``limit``."""
    n = data.X.shape[0]
    order = np.random.default_rng(1).permutation(n)
    size = min(int(_HELD_OUT * n), _MOST_HELD_OUT)
    return Split(_rows(data, order[size:][:limit]), _rows(data, order[:size]))


def _rows(data: Dataset, rows: np.ndarray) -> Dataset:
    rows = np.sort(rows)
    X, Y = csr_matrix(data.X[rows]), csr_matrix(data.Y[rows])
    return data._replace(X=X, Y=Y)
