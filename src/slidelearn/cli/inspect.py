"""`slide inspect`: what is in a model folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from slidelearn.index import NeuronIndex
    from slidelearn.memory import Memory
    from slidelearn.model import Model
    from slidelearn.network import Network

__all__ = ["inspect"]

_LARGEST = 5  # buckets that are listed


class _Part(NamedTuple):
    """A row of the first table."""

    name: str
    kind: str
    shape: str
    parameters: int
    weight_bytes: int
    state_bytes: int  # of the optimizer
    index_bytes: int


def inspect(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A model folder.")],
) -> None:
    """Show layers, parameters and memory, and how evenly the hash tables are filled."""
    from slidelearn.display import answer_console
    from slidelearn.model_file import load_model

    model = load_model(folder)
    console = answer_console()
    console.print(str(folder), soft_wrap=True)
    console.print(_layer_table(_parts(model)))
    for name, index in zip(_names(model), model.network.indexes, strict=True):
        if index is not None and index.tables is not None:
            console.print(f"hash tables of {name}")
            console.print(_index_table(index))
    console.print(_summary(model))


def _names(model: "Model") -> list[str]:
    return [f"hidden {depth + 1}" for depth in range(len(model.network.hidden))] + ["output"]


def _parts(model: "Model") -> list[_Part]:
    """Every layer and path, the margins and the remembered examples, with the bytes of each."""
    network = model.network
    parts = []
    layers = (*network.hidden, network.output)
    for name, layer, index in zip(_names(model), layers, network.indexes, strict=True):
        kind = "dense" if index is None else "hashed"
        shape = f"{layer.n_in:,} -> {layer.n_out:,}"
        weights = _arrays((layer.weight, *(layer.small or ())))
        parameters, nbytes = (sum(getattr(w, what) for w in weights) for what in ("size", "nbytes"))
        state = sum(array.nbytes for array in _arrays(layer.optimizer))
        size = 0 if index is None else _index_bytes(index)
        if layer is network.output:
            size += sum(array.nbytes for array in network.coarse)
        parts.append(_Part(name, kind, shape, parameters, nbytes, state, size))
    if network.wide is not None:
        wide = network.wide
        size = wide.indptr.nbytes + wide.features.nbytes + wide.weights.nbytes
        tables = (*(network.postings or ()), *network.head, *network.ranks)
        filed = sum(array.nbytes for array in tables)
        shape = f"{network.n_features:,} -> {network.n_labels:,}"
        parts.append(
            _Part("wide", "sparse", shape, wide.weights.size, size, wide.squares.nbytes, filed)
        )
    if network.margins is not None:
        parts.append(_margins_part(network))
    if network.memory is not None:
        parts.append(_memory_part(network.memory))
    return parts


def _margins_part(network: "Network") -> _Part:
    """The labels' classifiers, which share the features of the wide path if there is one."""
    assert network.margins is not None
    path, bias = network.margins.path, network.margins.bias
    shape = f"{network.n_features:,} -> {network.n_labels:,}"
    own = () if network.wide is not None else (path.indptr, path.features)
    size = sum(array.nbytes for array in (path.weights, bias, *own))
    return _Part("margins", "sparse", shape, path.weights.size + bias.size, size, 0, 0)


def _memory_part(memory: "Memory") -> _Part:
    """The training examples that vote: their features, then their labels."""
    examples, labels = memory.examples, memory.labels
    shape = f"{len(examples.indptr) - 1:,} examples"
    size = sum(array.nbytes for array in (*examples, *labels))
    index = sum(array.nbytes for array in memory.postings)
    return _Part("memory", "hashed", shape, examples.weights.size, size, 0, index)


def _arrays(values: Any) -> list[Any]:
    """The arrays among the fields of a tuple."""
    return [value for value in values if hasattr(value, "nbytes")]


def _index_bytes(index: "NeuronIndex") -> int:
    family = {} if index.family is None else index.family.arrays()
    tables = () if index.tables is None else tuple(index.tables)
    rows = () if index.rows is None else tuple(index.rows)
    sketches = () if index.sketches is None else (index.sketches.words,)
    return sum(array.nbytes for array in _arrays((*family.values(), *tables, *rows, *sketches)))


def _layer_table(parts: list[_Part]) -> "Table":
    from rich.table import Table

    table = Table()
    for heading in ("layer", "kind", "in -> out"):
        table.add_column(heading)
    for heading in ("parameters", "weights", "optimizer", "tables"):
        table.add_column(heading, justify="right")
    for part in parts:
        sizes = (part.weight_bytes, part.state_bytes, part.index_bytes)
        table.add_row(*part[:3], f"{part.parameters:,}", *map(_mebibytes, sizes))
    table.add_section()
    sums = [sum(column) for column in zip(*(part[3:] for part in parts), strict=True)]
    table.add_row("all", "", "", f"{sums[0]:,}", *map(_mebibytes, sums[1:]))
    return table


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"


def _index_table(index: "NeuronIndex") -> "Table":
    from rich.table import Table

    from slidelearn.tables import occupancy

    assert index.tables is not None
    filled = occupancy(index.tables, n_largest=_LARGEST)
    n_tables, n_buckets = len(filled.largest), index.tables.offsets.shape[1] - 1
    largest = ", ".join(
        f"{size:,} (table {table}, bucket {bucket})"
        for table, bucket, size in filled.largest_buckets
    )
    config = index.config
    rows = Table(show_header=False)
    rows.add_row("family", config.family if config.family == "centroids" else
                 f"{config.family}, K = {config.k}")  # fmt: skip
    rows.add_row("tables L", f"{n_tables:,}")
    rows.add_row("buckets per table", f"{n_buckets:,}")
    rows.add_row("buckets with neurons", f"{100 * filled.non_empty.mean() / n_buckets:.1f} %")
    rows.add_row("mean size of a neuron's bucket", f"{filled.mean_seen.mean():,.1f}")
    rows.add_row("largest buckets", largest)
    rows.add_row("most retrieved, training", f"{config.limit:,}")
    rows.add_row("most retrieved, predicting", f"{index.predict_size.limit:,}")
    return rows


def _summary(model: "Model") -> str:
    """What is known about the training run."""
    facts = model.facts
    lines = []
    if "n_examples" in facts:
        lines.append(
            f"trained on {facts['n_examples']:,} examples: {facts.get('epochs', 0)} epochs, "
            f"{facts.get('train_seconds', 0.0):.1f} s"
            + (", interrupted" if facts.get("interrupted") else "")
        )
    if "compact" in facts:
        lines.append(f"a compact copy for predictions: {facts['compact']}")
    if model.hashed:
        recall = facts.get("recall@5")
        lines.append(
            "recall@5 of the index: "
            + (f"{recall:.3f} as far as the settings say" if recall is not None else "not measured")
        )
        lines += [
            f"  top {reach.k}, {reach.scale:g} times as far: {reach.recall:.3f}, "
            f"and {reach.checked:.3f} on others"
            for reach in model.reaches
        ]
        lines += [
            f"by default a search for up to {k} goes {model.usual_scale(k):g} times as far"
            for k in sorted({reach.k for reach in model.reaches})
        ]
    return "\n".join(lines)
