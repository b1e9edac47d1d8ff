"""`slide evaluate`: how good and how fast a model is on a labelled file."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from slidelearn.datasets import Dataset
    from slidelearn.model import Model

__all__ = ["evaluate"]

_KS = (1, 3, 5)
_SAMPLE = 1000  # examples that recall@5 of the index is measured on


def evaluate(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A model folder.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Labelled examples.")],
    exact: Annotated[
        bool, typer.Option("--exact", help="Score every neuron, not only retrieved ones.")
    ] = False,
    recall: Annotated[
        float | None,
        typer.Option(metavar="X", help="Share of the exact top to find; 0.99 if not given."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Score a model: P@k, PSP@k, nDCG@k, time, and recall of its hash tables."""
    from slidelearn.cli.inputs import Columns, load_fitting, note_reach
    from slidelearn.model_file import load_model

    model = load_model(folder)
    note_reach(model, recall, max(_KS), exact=exact)
    measured = _measure(model, load_fitting(file, Columns.of(model)), exact, recall)
    if as_json:
        print(json.dumps(measured))
    else:
        _print_table(measured, f"{file} · {'every neuron' if exact else 'retrieved neurons'}")


def _measure(
    model: "Model", data: "Dataset", exact: bool, recall: float | None
) -> dict[str, float]:
    """Everything that is reported; percent for metrics, shares for the rest."""
    from slidelearn.csr import slice_rows
    from slidelearn.metrics import report

    n, k = data.X.shape[0], max(_KS)
    first = slice_rows(data.X, 0, 1)
    model.predict_topk(first, k, exact=exact, recall=recall)  # compiles, which is not timed
    began = time.perf_counter()
    top = model.predict_topk(data.X, k, exact=exact, recall=recall)
    seconds = time.perf_counter() - began
    scores = report(top.labels, data.Y, model.inverse_propensity, _KS)
    return scores | {
        "n_examples": n,
        "seconds": seconds,
        "ms_per_example": 1000 * seconds / n,
        "active_share": top.active / (n * model.network.n_labels),
        f"recall@{k}": _recall(model, data, k, recall),
    }


def _recall(model: "Model", data: "Dataset", k: int, recall: float | None) -> float:
    """Share of the exact top k that hashed prediction finds, on a sample; 1 without tables."""
    import numpy as np

    from slidelearn.csr import take_rows
    from slidelearn.metrics import recall_at_k

    if not model.hashed:
        return 1.0
    n = data.X.shape[0]
    X = take_rows(data.X, np.sort(np.random.default_rng(0).permutation(n)[:_SAMPLE]))
    best = model.predict_topk(X, k, exact=True).labels
    found = model.predict_topk(X, k, recall=recall).labels
    return recall_at_k(found, best, k)


def _print_table(measured: dict[str, float], title: str) -> None:
    """Metrics as a table of k, the rest as lines."""
    from rich.table import Table

    from slidelearn.display import answer_console

    table = Table()
    table.add_column("%")
    for k in _KS:
        table.add_column(f"@{k}", justify="right")
    for name, key in (("P", "p"), ("PSP", "psp"), ("nDCG", "ndcg")):
        table.add_row(name, *(f"{measured[f'{key}@{k}']:.2f}" for k in _KS))
    console = answer_console()
    console.print(title, soft_wrap=True)
    console.print(table)
    console.print(
        f"{measured['n_examples']:,} examples in {measured['seconds']:.2f} s, "
        f"{measured['ms_per_example']:.3f} ms each\n"
        f"{100 * measured['active_share']:.2f} % of the output neurons computed\n"
        f"recall@5 of the index: {measured['recall@5']:.3f}"
    )
