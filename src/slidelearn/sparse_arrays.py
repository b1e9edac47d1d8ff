"""Sparse arrays: a name for every array of the wide path, margins and memory, and the way back."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from slidelearn.array_file import ArrayFile
from slidelearn.config import Config
from slidelearn.cooccurrence import Cooccurrence
from slidelearn.csr import find_disorder, make_csr
from slidelearn.errors import ModelError
from slidelearn.head import Head
from slidelearn.layers import Pairs
from slidelearn.margins import Margins
from slidelearn.memory import Memory, Worth, choose_probes, make_memory
from slidelearn.network import Network, ranks_beside, with_head, with_postings, with_ranks
from slidelearn.postings import UNBIASED, Postings
from slidelearn.ranks import Ranks, make_ranks, words_for
from slidelearn.wide import Wide

__all__ = ["name_sparse", "read_derived", "read_margins", "read_memory", "read_wide"]


def name_sparse(network: Network) -> dict[str, NDArray[Any]]:
    """Arrays of the wide path, the margins and the memory by name, without copies."""
    arrays: dict[str, NDArray[Any]] = {}
    if network.wide is not None:
        arrays |= {f"wide.{part}": array for part, array in network.wide._asdict().items()}
    if network.margins is not None:
        path = network.margins.path
        arrays |= {"margins.weights": path.weights, "margins.bias": network.margins.bias}
        if network.wide is None:  # which else has the same features
            arrays |= {"margins.indptr": path.indptr, "margins.features": path.features}
    if network.memory is not None:
        examples, labels = network.memory.examples, network.memory.labels
        arrays |= {
            "memory.indptr": examples.indptr,
            "memory.features": examples.features,
            "memory.values": examples.weights,
            "memory.label_indptr": labels.indptr,
            "memory.labels": labels.neurons,
        }
    return arrays | _derived_arrays(network)


def _derived_arrays(network: Network) -> dict[str, NDArray[Any]]:
    """What could be made again from the rest, but in seconds where mapping it takes none."""
    arrays: dict[str, NDArray[Any]] = {}
    if network.wide is not None:
        arrays |= {f"ranks.{part}": array for part, array in network.ranks._asdict().items()}
    if len(network.head.labels):
        arrays |= {f"head.{part}": array for part, array in network.head._asdict().items()}
    if network.postings is not None:
        arrays |= {f"postings.{part}": a for part, a in network.postings._asdict().items()}
    if network.memory is not None:
        near, together = network.memory.postings, network.memory.cooccurrence
        arrays |= {
            "memory.postings.indptr": near.indptr,
            "memory.postings.labels": near.labels,
            "memory.postings.weights": near.weights,
            "cooccurrence.indptr": together.partners.indptr,
            "cooccurrence.partners": together.partners.neurons,
            "cooccurrence.shares": together.shares,
        }
    return arrays


def read_wide(file: ArrayFile, n_features: int, n_labels: int, compact: str | None) -> Wide:
    """The wide path, with every feature in bounds and ascending in its label."""
    indptr, features = _read_rows(file, ("wide.indptr", "wide.features"), n_labels, n_features)
    size = (len(features),)
    weights = file.take("wide.weights", np.float32, size)
    squares = file.take("wide.squares", np.float32, size if compact is None else (0,))
    return Wide(indptr, features, weights, squares)


def read_margins(
    file: ArrayFile, config: Config, wide: Wide | None, size: tuple[int, int]
) -> Margins | None:
    """The classifiers of labels, for ``size`` features and labels; training may have had none."""
    if "margins.weights" not in file:
        return None
    n_features, n_labels = size
    if wide is None:
        names = ("margins.indptr", "margins.features")
        indptr, features = _read_rows(file, names, n_labels, n_features)
    else:
        indptr, features = wide.indptr, wide.features
    weights = file.take("margins.weights", np.float32, (len(features),))
    path = Wide(indptr, features, weights, np.empty(0, np.float32))
    return Margins(path, file.take("margins.bias", np.float32, (n_labels,)), config.margin)


def read_memory(file: ArrayFile, config: Config, n_features: int, n_labels: int) -> Memory:
    """The training examples that vote."""
    names = ("memory.indptr", "memory.features")
    indptr, features = _read_rows(file, names, None, n_features)
    names = ("memory.label_indptr", "memory.labels")
    label_indptr, labels = _read_rows(file, names, len(indptr) - 1, n_labels)
    values = file.take("memory.values", np.float32, (len(features),))
    n, worth = len(indptr) - 1, Worth.of(config)
    if "cooccurrence.shares" not in file:  # the first versions left that and postings out
        return make_memory(
            make_csr(values, features, indptr, (n, n_features)),
            make_csr(np.ones(len(labels), np.uint8), labels, label_indptr, (n, n_labels)),
            limit=config.neighbours,
            worth=worth,
            cooccurrence=config.cooccurrence,
        )
    examples = Wide(indptr, features, values, np.empty(0, np.float32))
    postings = _read_postings(file, "memory.postings", (n_features, n), UNBIASED)
    names = ("cooccurrence.indptr", "cooccurrence.partners")
    partners = Pairs(*_read_rows(file, names, n_labels, n_labels, ascending=False))
    shares = file.take("cooccurrence.shares", np.float32, (len(partners.neurons),))
    together = Cooccurrence(partners, shares, config.cooccurrence if len(shares) else 0.0)
    known, sizes = Pairs(label_indptr, labels), (config.neighbours, choose_probes(n, n_features))
    return Memory(examples, known, postings, n_labels, *sizes, worth, together)


def read_derived(file: ArrayFile, network: Network) -> Network:
    """Return a network with the postings and ranks of its wide path, read or made, and its head.

    Coarse rows have been read by then; the first versions had no head, and do without.
    """
    if "postings.bias" not in file:  # the first versions left it out
        network = with_postings(network)
    else:
        bias = file.take("postings.bias", np.float32, (network.n_labels,))
        size = network.n_features, network.n_labels
        network = network._replace(postings=_read_postings(file, "postings", size, bias))
    if network.wide is None:
        return network
    if "head.labels" in file:
        network = network._replace(head=_read_head(file, network))
    if "ranks.rows" in file:
        return network._replace(ranks=_read_ranks(file, network))
    return with_ranks(network)  # the first versions made them for long predictions only


def _read_head(file: ArrayFile, network: Network) -> Head:
    """The head of a network; to make it is the quickest check of it."""
    labels = file.take("head.labels", np.int32, (None,))
    places, m = file.take("head.places", np.int16, (None,)), len(labels)
    n_margins = 0 if network.margins is None else len(places)
    head = Head(
        labels,
        file.take("head.rows", np.int16, (network.n_labels,)),
        file.take("head.indptr", np.int64, (network.n_features + 1,)),
        places,
        file.take("head.wide", np.float32, places.shape),
        file.take("head.margins", np.float32, (n_margins,)),
        file.take("head.bias", np.float32, (m,)),
        file.take("head.margins_bias", np.float32, (m,)),
    )
    if not file.trusted:
        _compare(file, "weights of the head", head, with_head(network).head)
    return head


def _read_ranks(file: ArrayFile, network: Network) -> Ranks:
    """Ranks of a wide path, unless the head has their labels; to make them is the best check."""
    wide, n_features = network.wide, network.n_features
    assert wide is not None
    rows = file.take("ranks.rows", np.int32, (None,))
    size = None, words_for(n_features) if len(rows) else 0
    ranks = Ranks(rows, file.take("ranks.words", np.uint64, size))
    if not file.trusted:
        expected = make_ranks(wide.indptr, wide.features, n_features)
        if len(rows) == 0:
            expected = ranks_beside(network.head, expected)
        _compare(file, "ranks", ranks, expected)
    return ranks_beside(network.head, ranks)


def _compare(
    file: ArrayFile, name: str, got: tuple[NDArray[Any], ...], expected: tuple[NDArray[Any], ...]
) -> None:
    """Stop if arrays are not those that are made from the rest."""
    if not all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True)):
        raise ModelError(f"{file.path}: {name} are not those of the wide path; it is damaged")


def _read_postings(
    file: ArrayFile, name: str, shape: tuple[int, int], bias: NDArray[np.float32]
) -> Postings:
    """Tables of so many features over so many rows of them."""
    (n_features, n_rows), names = shape, (f"{name}.indptr", f"{name}.labels")
    indptr, labels = _read_rows(file, names, n_features, n_rows, ascending=False)
    weights = file.take(f"{name}.weights", np.float32, labels.shape)
    if f"{name}.usual" not in file:  # as in the memory, and what the first versions wrote
        return Postings(indptr, labels, weights, bias, np.empty(0, np.int32))
    usual = file.take(f"{name}.usual", np.int32, (None,))
    if len(usual) and not (usual.min() >= 0 and usual.max() < n_rows):
        raise ModelError(f"{file.path}: {name}.usual has an id outside of 0 to {n_rows - 1}")
    return Postings(indptr, labels, weights, bias, usual)


def _read_rows(
    file: ArrayFile,
    names: tuple[str, str],
    n_rows: int | None,
    n_columns: int,
    *,
    ascending: bool = True,
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Row starts and columns of a CSR structure; these are in bounds, and may ascend in a row."""
    indptr = file.take(names[0], np.int64, (None if n_rows is None else n_rows + 1,))
    columns = file.take(names[1], np.int32, (None,))
    size = len(columns)
    if file.trusted:
        return indptr, columns
    if not len(indptr) or indptr[0] != 0 or indptr[-1] != size or (np.diff(indptr) < 0).any():
        raise ModelError(f"{file.path}: {names[0]} does not cut {size} entries into rows")
    if size and not (columns.min() >= 0 and columns.max() < n_columns):
        raise ModelError(f"{file.path}: {names[1]} has an id outside of 0 to {n_columns - 1}")
    if not ascending:
        return indptr, columns
    if find_disorder(indptr, columns) is not None:
        raise ModelError(f"{file.path}: {names[1]} does not ascend in every row")
    return indptr, columns
