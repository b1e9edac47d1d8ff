"""`slide compact`: a copy of a model that only predicts, and what that costs in accuracy."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slidelearn.errors import ModelError

if TYPE_CHECKING:
    from slidelearn.model import Model

__all__ = ["compact"]

_KS = (1, 3, 5)


def compact(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="The model folder.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The folder of the copy.")],
    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="T", help="Of the weights: int8 (the default), int16, bf16 or float32."
        ),
    ] = None,
    drop_optimizer: Annotated[
        bool, typer.Option("--drop-optimizer", help="Do no more than that: --dtype float32.")
    ] = False,
    test: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Labelled examples to score both on.")
    ] = None,
) -> None:
    """Write a smaller copy of a model, for predictions: it cannot be trained further.

    Prints both sizes, and P@1, P@3 and P@5 of both on a file if one is given.
    """
    from slidelearn.compacting import compact_model
    from slidelearn.display import answer_console
    from slidelearn.model_file import load_model, save_model

    if source.resolve() == target.resolve():
        raise ModelError(f"{target}: is the model's own folder; name another one for the copy")
    model = load_model(source)
    save_model(compact_model(model, dtype or ("float32" if drop_optimizer else "int8")), target)
    copy = load_model(target)
    console = answer_console()
    for name, folder in (("the model", source), ("the copy", target)):
        console.print(f"{name}: {_size(folder) / 2**20:,.1f} MiB in {folder}", soft_wrap=True)
    if test is not None:
        console.print(_compared(model, copy, test), soft_wrap=True)


def _size(folder: Path) -> int:
    """Bytes of a model's files."""
    from slidelearn.model_file import file_sizes

    return sum(file_sizes(folder).values())


def _compared(model: "Model", copy: "Model", file: Path) -> str:
    """P@k of a model and its copy on a file."""
    from slidelearn.cli.inputs import Columns, load_fitting
    from slidelearn.metrics import report

    data = load_fitting(file, Columns.of(model))
    lines = [f"on {data.X.shape[0]:,} examples of {file}:"]
    for name, one in (("the model", model), ("the copy", copy)):
        top = one.predict_topk(data.X, max(_KS)).labels
        scores = report(top, data.Y, one.inverse_propensity, _KS)
        lines.append(f"  {name}: " + ", ".join(f"P@{k} {scores[f'p@{k}']:.2f}" for k in _KS))
    return "\n".join(lines)
