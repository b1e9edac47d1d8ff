"""`slide predict`: the best labels of every example, one line each."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

from slidelearn.errors import ConfigError

if TYPE_CHECKING:
    from slidelearn.predicting import TopK

__all__ = ["predict"]

_EXAMPLES = 2**16  # that are predicted before their lines are written
_RESERVED = re.compile(r"[\s%]")


def predict(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A model folder.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Examples; labels are not used.")],
    k: Annotated[int, typer.Option("-k", metavar="N", help="Labels for each example.")] = 5,
    exact: Annotated[
        bool, typer.Option("--exact", help="Score every neuron, not only retrieved ones.")
    ] = False,
    recall: Annotated[
        float | None,
        typer.Option(metavar="X", help="Share of the exact top to find; 0.99 if not given."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write here, not to standard output.")
    ] = None,
) -> None:
    """Predict: one line per example, `label:score label:score ...`, best first.

    White space and % in label names are written as in URLs (%20, %25).
    """
    if k < 1:
        raise ConfigError(f"-k is {k}, ask for at least 1 label")
    from slidelearn.cli.inputs import Columns, load_features, note_reach
    from slidelearn.csr import slice_rows
    from slidelearn.datasets.streams import file_errors
    from slidelearn.files import atomic_write
    from slidelearn.model_file import load_model

    model = load_model(folder)
    n_labels = model.network.n_labels
    data = load_features(file, Columns.of(model))
    note_reach(model, recall, k, exact=exact)

    def answers() -> "Iterator[TopK]":
        for start in range(0, data.X.shape[0], _EXAMPLES):
            block = slice_rows(data.X, start, start + _EXAMPLES)
            yield model.predict_topk(block, min(k, n_labels), exact=exact, recall=recall)

    lines = (line.encode() for top in answers() for line in _lines(top, model.label_names))
    if output is None:
        sys.stdout.buffer.writelines(lines)
        sys.stdout.buffer.flush()
        return
    with file_errors(output), atomic_write(output) as stream:
        stream.writelines(lines)


def _lines(top: "TopK", names: list[str] | None) -> Iterator[str]:
    """One line per example; fewer labels where fewer were retrieved."""
    shown = None if names is None else [_RESERVED.sub(_escape, name) for name in names]
    for labels, scores in zip(top.labels.tolist(), top.scores.tolist(), strict=True):
        pairs = zip(labels, scores, strict=True)
        found = [(label, score) for label, score in pairs if label >= 0]
        yield " ".join(f"{shown[i] if shown else i}:{score:.6g}" for i, score in found) + "\n"


def _escape(match: re.Match[str]) -> str:
    return quote(match[0], safe="")
