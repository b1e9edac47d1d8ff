"""Network arrays: a name for every array of a network, and the way back with all bounds checked."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slidelearn.array_file import ArrayFile
from slidelearn.coarse_rows import NO_COARSE, CoarseRows
from slidelearn.config import Config, TableConfig
from slidelearn.errors import DataError, ModelError
from slidelearn.hashing import Centring, HashFamily, restore_family
from slidelearn.hashing.centroids import Centroids
from slidelearn.index import NeuronIndex
from slidelearn.layers import Layer
from slidelearn.model import Model
from slidelearn.network import UNWEIGHTED, Network
from slidelearn.optimizers import Optimizer, make_optimizer, state_shapes
from slidelearn.small_rows import SMALL_TYPES, SmallRows
from slidelearn.sparse_arrays import (
    name_sparse,
    read_derived,
    read_margins,
    read_memory,
    read_wide,
)
from slidelearn.tables import build_tables
from slidelearn.tables.sketches import n_words, open_sketches

__all__ = ["layer_names", "name_arrays", "name_layers", "read_index", "read_network"]

_STATES = ("squares", "first", "second", "steps")
_MAX_BUCKETS = 2**24
_LATER = ("radii", "lengths")  # of centroids; the first versions had none


def name_arrays(model: Model) -> dict[str, NDArray[Any]]:
    """Every array of a model by name, without copies.

    Tables are left out but for their codes, from which a counting sort restores them.

    Examples
    --------
    >>> from scipy.sparse import csr_matrix
    >>> from slidelearn.datasets import Dataset
    >>> from slidelearn.fitting import fit_model
    >>> data = Dataset(csr_matrix([[1.0]]), csr_matrix([[1]]))
    >>> sorted(name_arrays(fit_model(data, {"epochs": 1, "wide": 0})))[:3]
    ['hidden.0.first', 'hidden.0.second', 'hidden.0.squares']
    """
    network = model.network
    arrays = name_layers(network)
    arrays |= {"inverse_propensity": model.inverse_propensity, "mean": network.mean}
    if len(network.coarse.scales):
        arrays |= {f"coarse.{part}": array for part, array in network.coarse._asdict().items()}
    if len(network.feature_weights):
        arrays["feature_weights"] = network.feature_weights
    return arrays | name_sparse(network)


def name_layers(network: Network) -> dict[str, NDArray[Any]]:
    """Weights, optimizers and tables of the layers of a network by name, without copies."""
    arrays: dict[str, NDArray[Any]] = {}
    layers = (*network.hidden, network.output)
    for name, layer, index in zip(layer_names(network), layers, network.indexes, strict=True):
        if layer.small is None:
            arrays[f"{name}.weight"] = layer.weight
        else:
            arrays |= name_small_rows(f"{name}.small", layer.small)
        arrays |= {f"{name}.{state}": getattr(layer.optimizer, state) for state in _STATES}
        if index is not None and index.tables is not None:
            arrays |= _index_arrays(f"{name}.index", index)
    return arrays


def read_network(
    path: Path,
    config: Config,
    n_features: int,
    n_labels: int,
    *,
    compact: str | None = None,
    trusted: bool = False,
) -> tuple[Network, NDArray[np.float64]]:
    """Read a network and the inverse propensities of its labels.

    A ``compact`` one has no optimizers, and weights of that type; see `compact_model`. The content
    of a trusted file is not looked at.

    Raises
    ------
    ModelError
        If an array is missing, or its shape or content does not fit the settings.
    """
    file = ArrayFile(path, trusted=trusted)
    hidden: list[Layer] = []
    indexes: list[NeuronIndex | None] = []
    tables = config.hidden_tables
    widths = (n_features, *config.hidden)
    hashed = tables is not None
    for depth, (n_in, n_out) in enumerate(pairwise(widths)):
        name = f"hidden.{depth}"
        shape = (n_out, n_in + 1) if hashed else (n_in + 1, n_out)
        kept = compact if depth == 0 or compact is None else "float32"
        hidden.append(_read_layer(file, name, shape, config, kept, hashed=hashed))
        size = (n_out, n_in)
        if tables is None:
            indexes.append(None)
        else:
            indexes.append(read_index(file, path, name, tables, size))
    shape = (n_labels, widths[-1] + 1)
    output = _read_layer(file, "output", shape, config, compact, hashed=True)
    searched = config.tail < n_labels
    size = (n_labels, widths[-1])
    if searched and not config.files_neurons and "output.index.codes" not in file:
        indexes.append(NeuronIndex(config.tables, config.seed))
    else:  # the first versions filed them always
        indexes.append(read_index(file, path, "output", config.tables, size) if searched else None)
    wide = read_wide(file, n_features, n_labels, compact) if config.wide else None
    memory = read_memory(file, config, n_features, n_labels) if config.neighbours else None
    margins = read_margins(file, config, wide, (n_features, n_labels))
    mean = file.take("mean", np.float32, (widths[-1],))
    inverse_propensity = file.take("inverse_propensity", np.float64, (n_labels,))
    weights = UNWEIGHTED
    if config.relevance or config.rarity:
        weights = file.take("feature_weights", np.float32, (n_features,))
    network = Network(
        tuple(hidden), mean, output, wide, tuple(indexes), None, memory, margins, weights
    )
    network = network._replace(coarse=_read_coarse(file, (n_labels, widths[-1])))
    return read_derived(file, network), inverse_propensity


def layer_names(network: Network) -> Iterator[str]:
    """Names of the layers, first to last."""
    yield from (f"hidden.{depth}" for depth in range(len(network.hidden)))
    yield "output"


def _index_arrays(name: str, index: NeuronIndex) -> dict[str, NDArray[Any]]:
    """Family, centring, codes and seed of one index."""
    assert index.family is not None
    assert index.tables is not None
    arrays = {f"{name}.family.{part}": a for part, a in index.family.arrays().items()}
    if index.centring is not None:
        for part, value in index.centring._asdict().items():
            arrays[f"{name}.centring.{part}"] = np.asarray(value)
    if index.rows is not None:
        arrays |= name_small_rows(f"{name}.rows", index.rows)
    if index.sketches is not None:
        arrays[f"{name}.sketches"] = index.sketches.words
    arrays[f"{name}.codes"] = index.tables.codes
    arrays[f"{name}.seed"] = np.asarray(index.seed, np.int64)
    return arrays


def _read_layer(
    file: ArrayFile,
    name: str,
    shape: tuple[int, int],
    config: Config,
    compact: str | None,
    *,
    hashed: bool,
) -> Layer:
    """Weights of one layer, and its optimizer with exactly the arrays that its kind needs."""
    weight, small = np.empty((0, 0), np.float32), None
    if compact in (None, "float32") or config.hidden_tables is not None:
        weight = file.take(f"{name}.weight", np.float32, shape)
    else:
        rows = (shape[0], shape[1] - 1) if hashed else shape
        small = read_small_rows(file, f"{name}.small", rows, compact, neurons=hashed)
    pattern, states = make_optimizer(config.optimizer, (1, 1)), {}
    for state, size in state_shapes(config.optimizer, shape).items():
        wanted = size if compact is None else (0,) * len(size)
        states[state] = file.take(f"{name}.{state}", getattr(pattern, state).dtype.type, wanted)
    return Layer(weight, Optimizer(pattern.kind, **states), hashed, small)


def read_index(
    file: ArrayFile, path: Path, layer: str, config: TableConfig, size: tuple[int, int]
) -> NeuronIndex:
    """Hash tables of a layer with ``size`` neurons and inputs."""
    name, (n_neurons, width) = f"{layer}.index", size
    index = NeuronIndex(config, int(file.take(f"{name}.seed", np.int64, ())))
    if f"{name}.centring.mean_w" in file:
        index.centring = Centring(
            file.take(f"{name}.centring.mean_w", np.float32, (width,)),
            file.take(f"{name}.centring.mean_h", np.float32, (width,)),
            float(file.take(f"{name}.centring.mean_bias", np.float64, ())),
            float(file.take(f"{name}.centring.scale", np.float64, ())),
        )
        width += 1  # the bias is one more coordinate
    index.family = _read_family(file, path, f"{name}.family", config, width)
    codes = file.take(f"{name}.codes", np.int32, (n_neurons, config.l))
    try:
        index.tables = build_tables(codes, index.family.n_buckets)
    except DataError as error:
        raise ModelError(f"{path}: {name}: {error}") from None
    if f"{name}.rows.values" in file:
        index.rows = read_small_rows(file, f"{name}.rows", size, "int8", neurons=True)
    if f"{name}.sketches" in file and isinstance(index.family, Centroids):
        shape = n_neurons, n_words(size[1]) + 2
        words = file.take(f"{name}.sketches", np.int64, shape)
        index.sketches = open_sketches(words, index.seed)
    return index


def name_small_rows(name: str, rows: SmallRows) -> dict[str, NDArray[Any]]:
    """Arrays of small rows."""
    return {f"{name}.{part}": array for part, array in rows._asdict().items()}


def read_small_rows(
    file: ArrayFile, name: str, shape: tuple[int, int], dtype: str, *, neurons: bool
) -> SmallRows:
    """Small rows of a shape, with biases where they are neurons."""
    size = (shape[0] if neurons else 0,)
    return SmallRows(
        file.take(f"{name}.values", SMALL_TYPES[dtype], shape),
        file.take(f"{name}.scales", np.float32, shape[:1]),
        file.take(f"{name}.bias", np.float32, size),
    )


def _read_coarse(file: ArrayFile, size: tuple[int, int]) -> CoarseRows:
    """Coarse rows of the output layer, if there are any; the first versions had none."""
    n_labels, width = size
    if "coarse.scales" not in file:
        return NO_COARSE
    values = file.take("coarse.values", np.uint8, (n_labels, (width + 1) // 2))
    return CoarseRows(values, file.take("coarse.scales", np.float32, (n_labels,)))


def _read_family(
    file: ArrayFile, path: Path, name: str, config: TableConfig, width: int
) -> HashFamily:
    """A hash family for vectors of the given width."""
    n_hashes = config.k * config.l
    expected: dict[str, dict[str, tuple[type[np.generic], tuple[int | None, ...]]]] = {
        "centroids": {
            "centroids": (np.float32, (config.l, None, width)),
            "radii": (np.float32, (config.l, None)),
            "lengths": (np.float32, (None,)),
        },
        "simhash": {"planes": (np.float32, (width, n_hashes)), "shape": (np.int64, (3,))},
        "minhash": {"seeds": (np.int64, (n_hashes,)), "shape": (np.int64, (5,))},
        "dwta": {
            "bins": (np.int32, (width, None)),
            "places": (np.int32, (width, None)),
            "shape": (np.int64, (4,)),
        },
    }
    arrays = {
        part: file.take(f"{name}.{part}", *kind)
        for part, kind in expected[config.family].items()
        if part not in _LATER or f"{name}.{part}" in file
    }
    if "centroids" in arrays:
        arrays.setdefault("radii", np.zeros(arrays["centroids"].shape[:2], np.float32))
        arrays.setdefault("lengths", np.ones(1, np.float32))
    family = restore_family(config.family, arrays)
    fits = (
        family.n_features == width
        and family.n_tables == config.l
        and 1 <= family.n_buckets <= _MAX_BUCKETS
        and family.hashes(np.zeros((0, width), np.float32)).shape[1:]
        in ((config.l, config.k), (config.l, 1))
    )
    if "radii" in arrays:
        fits = fits and arrays["radii"].shape == arrays["centroids"].shape[:2]
        fits = fits and bool((arrays["lengths"] > 0).all())
    if "bins" in arrays:
        bins, places = arrays["bins"], arrays["places"]
        fits = (
            fits and bins.shape == places.shape and bool(((bins >= -1) & (bins < n_hashes)).all())
        )
    if not fits:
        raise ModelError(f"{path}: the arrays {name} do not fit each other; the file is damaged")
    return family
