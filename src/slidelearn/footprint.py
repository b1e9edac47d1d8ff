"""Footprint: the memory that a training run will take, known before it begins."""

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from slidelearn.coarse_rows import coarse_bytes
from slidelearn.config import Config, TableConfig
from slidelearn.cooccurrence import PARTNERS
from slidelearn.datasets import Dataset
from slidelearn.datasets.column import is_mapped
from slidelearn.errors import SlideError
from slidelearn.growing import joined_lists
from slidelearn.hashing.centroids import MOST_LEVELS, sample_size
from slidelearn.head import head_bytes, head_labels, most_in_head
from slidelearn.machine import memory_for_process
from slidelearn.memory import PER_FEATURE
from slidelearn.network import Network
from slidelearn.optimizers import make_optimizer, state_shapes
from slidelearn.ranks import long_lists, most_long, rank_bytes
from slidelearn.tables.sketches import SKETCHED, n_words
from slidelearn.wide import count_features

__all__ = ["Footprint", "check_memory", "kept_bytes", "measure_footprint"]

_PROGRAM = 230 * 2**20  # Python, NumPy, SciPy and compiled kernels: 217 to 228 MiB were measured


class Footprint(NamedTuple):
    """Bytes that a run needs at once.

    Attributes
    ----------
    data : int
        Examples and labels.
    parameters : int
        Weights of the layers, the wide path and the margins.
    optimizer : int
        What the optimizer keeps beside them.
    tables : int
        Hash tables, postings of the wide path and of the memory, and company of labels.
    working : int
        What training notes about examples and labels, and the program itself.
    """

    data: int
    parameters: int
    optimizer: int
    tables: int
    working: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self)


def measure_footprint(
    data: Dataset,
    config: Config,
    *,
    known: Network | None = None,
    copy: bool = False,
    exact: bool = True,
) -> Footprint:
    """Add up what a run on these data needs.

    Parameters
    ----------
    data : Dataset
        Training examples.
    config : Config
        Complete settings.
    known : Network, optional
        What the run trains further. Its memory is copied; what else the run does not change is not
        counted, for it may lie in a file.
    copy : bool
        Whether the run works on a copy of the data, as `fit_model` does by default.
    exact : bool
        Count the weights of the wide path; otherwise an upper bound of them, which takes no time.

    Examples
    --------
    >>> data = Dataset(csr_matrix(np.eye(2, dtype=np.float32)), csr_matrix([[1, 0], [0, 1]]))
    >>> config = Config(hidden=(4,), wide=0.0, neighbours=0, margin=0.0)
    >>> measure_footprint(data, config).parameters  # (2 + 1) x 4 and 2 x (4 + 1) float32
    88
    """
    X, Y = data.X, data.Y
    n, (n_features, n_labels) = X.shape[0], (X.shape[1], Y.shape[1])
    widths = (n_features, *config.hidden)
    hashed = config.hidden_tables is not None
    shapes = [(b, a + 1) if hashed else (a + 1, b) for a, b in pairwise(widths)]
    shapes.append((n_labels, widths[-1] + 1))
    sparse = config.wide > 0 or config.margin > 0
    coarse = config.tail < n_labels and config.wide > 0 and not hashed
    n_inputs = widths[-1] if coarse else 0
    n_pairs, beside = _count_pairs(X, Y, known, n_inputs, exact=exact) if sparse else (0, 0)
    parameters = 4 * sum(a * b for a, b in shapes)
    parameters += n_pairs * (4 + 4 * (config.wide > 0) + 4 * (config.margin > 0))
    optimizer = sum(_state_bytes(config.optimizer, shape) for shape in shapes)
    optimizer += 4 * n_pairs * (config.wide > 0)
    tables = 8 * min(n_pairs, n_features * config.tables.postings)
    tables += beside * (config.wide > 0)
    if config.tail < n_labels and config.files_neurons:
        tables += _table_bytes(config.tables, n_labels, widths[-1])
        tables += kept_bytes(config.tables, n_labels, widths[-1]) * (config.wide == 0)
    if coarse:
        tables += coarse_bytes(n_labels, widths[-1])
    if config.hidden_tables is not None:
        sizes = pairwise(widths)
        tables += sum(_table_bytes(config.hidden_tables, b, a) for a, b in sizes)
    copied, filed = _memory_bytes(data, config, known) if config.neighbours else (0, 0)
    # Rivals of every example, recorded and found, and turned around; six numbers for every label.
    working = 16 * n * config.n_rivals + 24 * n_labels + _PROGRAM
    working += filed * (config.calibration > 0)  # a memory of all examples, beside that of training
    size = (2 if copy else 1) * (_bytes(X) + _bytes(Y)) + copied
    return Footprint(size, parameters, optimizer, tables + filed, working)


def check_memory(
    data: Dataset, config: Config, *, copy: bool, known: Network | None = None
) -> None:
    """Refuse a run that would not fit.

    Raises
    ------
    SlideError
        If it needs more memory than there is.
    """
    room = memory_for_process()
    if room is None:
        return
    if measure_footprint(data, config, known=known, copy=copy, exact=False).total <= room:
        return
    need = measure_footprint(data, config, known=known, copy=copy)
    if need.total > room:
        parts = ", ".join(f"{name} {_gib(size)}" for name, size in need._asdict().items())
        raise SlideError(
            f"training needs {_gib(need.total)} of memory ({parts}), and this process can have "
            f"{_gib(room)}; choose a smaller hidden width, or train where there is more"
        )


def _count_pairs(
    X: csr_matrix, Y: csr_matrix, known: Network | None, n_inputs: int, *, exact: bool
) -> tuple[int, int]:
    """Pairs of a feature and a label that occur together or are known, or at least as many.

    Also the bytes of the ranks of long lists of them, and of the head of output neurons with so
    many inputs; 0 for none.
    """
    n_features, n_labels = int(X.shape[1]), int(Y.shape[1])
    path = None if known is None else known.wide
    if path is None and known is not None and known.margins is not None:
        path = known.margins.path
    if exact:
        starts = count_features(X, Y) if path is None else joined_lists(path, X, Y)
        n_pairs, n_long = int(starts[-1]), len(long_lists(starts, n_features))
        sizes = np.diff(starts)[head_labels(starts, n_features, n_inputs)]
        n_entries, m = int(sizes.sum()), len(sizes)
    else:
        n_pairs = int((np.diff(X.indptr).astype(np.int64) * np.diff(Y.indptr)).sum())
        n_pairs += 0 if path is None else len(path.features)
        n_pairs = min(n_pairs, n_features * n_labels)
        n_long = min(n_labels, most_long(n_pairs, n_features))
        n_entries, m = most_in_head(n_long, n_labels, n_inputs)
    ranks = rank_bytes(n_long, n_labels, n_features)
    return n_pairs, ranks + head_bytes(n_entries, m, n_labels, n_features)


def _memory_bytes(data: Dataset, config: Config, known: Network | None) -> tuple[int, int]:
    """Bytes of the remembered examples, if these are not the data themselves, and of what is filed.

    A run that goes on with a network remembers the examples of both in arrays of their own.
    """
    (n_features, n_labels), entries = (data.X.shape[1], data.Y.shape[1]), data.X.nnz
    sizes, copied = np.diff(data.Y.indptr).astype(np.int64), 0
    if known is not None and known.memory is not None:
        sizes = np.concatenate([np.diff(known.memory.labels.indptr), sizes])
        entries += len(known.memory.examples.features)
        copied = 8 * entries + 4 * int(sizes.sum()) + 16 * (len(sizes) + 1)
    filed = 8 * min(entries, n_features * PER_FEATURE) + 4 * len(sizes)
    beside = int((sizes * (sizes - 1)).sum())
    filed += 8 * min(beside, n_labels * PARTNERS) * (config.cooccurrence > 0)
    return copied, filed


def _state_bytes(optimizer: str, shape: tuple[int, int]) -> int:
    """Bytes of an optimizer's state for weights of a shape."""
    pattern = make_optimizer(optimizer, (1, 1))
    return sum(
        getattr(pattern, name).itemsize * math.prod(sizes)
        for name, sizes in state_shapes(optimizer, shape).items()
    )


def _table_bytes(config: TableConfig, n_neurons: int, width: int) -> int:
    """Bytes of one layer's tables, and of what they are made from."""
    filed = 8 * n_neurons * config.l  # codes of every neuron, and the neurons of every bucket
    place = 12 * config.l  # where a bucket begins in every table, and which holds a neuron next
    if config.family != "centroids":
        return filed + place * (1 << min(config.k, 24))
    n_directions = config.directions_for(n_neurons)
    sample = 3 * min(n_neurons, sample_size(n_directions))
    learned = 4 * (width + 1) * (config.l * n_directions + sample)
    return int(filed + place * n_directions * MOST_LEVELS + learned)


def kept_bytes(config: TableConfig, n_neurons: int, width: int) -> int:
    """Bytes of what predictions rank by where they ask one table first.

    Examples
    --------
    >>> kept_bytes(TableConfig(), 1000, 128)  # 128 + 8 of a row, 32 of a sketch
    168000
    """
    if config.l > 1:
        return 0
    sketched = config.family == "centroids" and width >= SKETCHED
    return n_neurons * (width + 8 + 8 * (n_words(width) + 2) * sketched)


def _bytes(matrix: csr_matrix) -> int:
    """Bytes of a matrix in memory; what lies in a file takes what is left."""
    arrays = (matrix.data, matrix.indices, matrix.indptr)
    return sum(int(array.nbytes) for array in arrays if not is_mapped(array))


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
