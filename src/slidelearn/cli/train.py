"""`slide train`: fit a model to a dataset, and write it with the record of its epochs."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from slidelearn.cli.interrupt import GracefulStop
from slidelearn.display import TrainingDisplay, note_console
from slidelearn.errors import ConfigError

if TYPE_CHECKING:
    from slidelearn.datasets import Dataset

__all__ = ["train"]

_METRICS = "metrics.jsonl"
_INTERRUPTED = 130


def train(
    data: Annotated[Path, typer.Argument(metavar="TRAIN", help="The examples to learn from.")],
    folder: Annotated[Path, typer.Option("--model", metavar="DIR", help="Where to save.")],
    valid: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Examples to score after every epoch.")
    ] = None,
    hidden: Annotated[
        str | None, typer.Option(metavar="N[,N...]", help="Widths of the hidden layers.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(metavar="N", help="Passes over the data.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(metavar="N", help="Examples of one step.")
    ] = None,
    lr: Annotated[
        float | None, typer.Option(metavar="X", help="Learning rate of the output layer.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="The same seed gives the same model.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(metavar="N", help="0: as many as there are cores.")
    ] = None,
    time_limit: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Train no longer than this.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="Settings; options win over them.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Train a model on a dataset; what is not given is chosen from the data.

    Writes the model and metrics.jsonl, one object per epoch, into DIR. Ctrl-C stops after the step
    in progress and saves what was learned (exit code 130); a second one gives up at once.
    """
    overrides = _overrides(
        config,
        hidden=None if hidden is None else _widths(hidden),
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        seed=seed,
        threads=threads,
    )
    examples, check = _load(data, valid)
    if _fit_and_save(examples, check, overrides, folder, time_limit, quiet):
        raise typer.Exit(_INTERRUPTED)


def _overrides(config: Path | None, **options: Any) -> dict[str, Any]:
    """Settings of a TOML file, then those of the options that were given."""
    from slidelearn.config import load_config

    given = {name: value for name, value in options.items() if value is not None}
    return (load_config(config) if config is not None else {}) | given


def _widths(text: str) -> list[int]:
    """Widths of layers from `512,256`."""
    try:
        return [int(width) for width in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"--hidden is {text!r}, give widths separated by commas, such as 512 or 512,256"
        ) from None


def _load(path: Path, valid: Path | None) -> "tuple[Dataset, Dataset | None]":
    """The training examples, and those to score."""
    from slidelearn.cli.inputs import Columns, load_fitting
    from slidelearn.datasets import load_dataset

    data = load_dataset(path)
    if valid is None:
        return data, None
    columns = Columns(data.X.shape[1], data.Y.shape[1], data.feature_names, data.label_names)
    return data, load_fitting(valid, columns)


def _fit_and_save(
    data: "Dataset",
    valid: "Dataset | None",
    overrides: dict[str, Any],
    folder: Path,
    time_limit: float | None,
    quiet: bool,
) -> bool:
    """Train and save; whether Ctrl-C ended the training early.

    The folder and the record are made first: if they cannot be written, nobody should have to wait
    for the end of the training to hear of it.
    """
    from slidelearn.fitting import FitEvents, fit_model
    from slidelearn.model_file import save_model
    from slidelearn.rules import choose_config

    n_epochs = choose_config(data.X, data.Y, overrides).epochs
    folder.mkdir(parents=True, exist_ok=True)
    console, last = note_console(quiet=quiet), dict[str, Any]()
    with ExitStack() as stack:
        record = stack.enter_context(open(folder / _METRICS, "w", encoding="utf-8"))
        stop = stack.enter_context(GracefulStop())
        display = stack.enter_context(TrainingDisplay(n_epochs, console))

        def note(epoch: dict[str, Any]) -> None:
            _write_line(record, epoch)
            display.show_epoch(epoch)
            last.update(epoch)

        events = FitEvents(display.show_progress, note, lambda: stop.requested)
        model = fit_model(
            data, overrides, valid=valid, time_limit=time_limit, copy=False, events=events
        )
        interrupted = stop.requested or bool(model.facts["interrupted"])
        model.facts["interrupted"] = interrupted
        if "recall@5" in last:
            model.facts["recall@5"] = last["recall@5"]
        save_model(model, folder)
    console.print(f"model {'so far ' if interrupted else ''}saved in {folder}")
    return interrupted


def _write_line(stream: IO[str], values: dict[str, Any]) -> None:
    """Write one JSON object on a line of its own, at once."""
    stream.write(json.dumps(values) + "\n")
    stream.flush()
