"""`slide train`: fit a model to a dataset, and write it with the record of its epochs."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slidelearn.cli.interrupt import INTERRUPTED, GracefulStop
from slidelearn.display import TrainingDisplay, answer_console, note_console
from slidelearn.errors import ConfigError
from slidelearn.files import atomic_write

if TYPE_CHECKING:
    from rich.console import Console

    from slidelearn.checkpoint import CheckpointPlan
    from slidelearn.config import Config
    from slidelearn.datasets import Dataset
    from slidelearn.fitting import FitEvents
    from slidelearn.model import Model
    from slidelearn.training import Progress

__all__ = ["train"]

_METRICS = "metrics.jsonl"


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
    checkpoint_every: Annotated[
        str, typer.Option(metavar="60s|N-steps|never", help="Leave checkpoints in DIR.")
    ] = "60s",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint in DIR.")
    ] = False,
    continue_: Annotated[
        Path | None,
        typer.Option("--continue", metavar="DIR", help="Train this model further, on new data."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print the memory that the run would take.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Train a model on a dataset; what is not given is chosen from the data.

    Writes the model and metrics.jsonl, one object per epoch, into DIR. Ctrl-C stops after the step
    in progress and saves what was learned (exit code 130); a second one, or one before the first
    step, gives up at once. After that, or after a crash, the same command with --resume goes on and
    ends as if nothing had been. With --continue a model learns new examples and labels, and keeps
    what it knows.
    """
    from slidelearn.rules import choose_config

    overrides = _overrides(
        config,
        hidden=None if hidden is None else _widths(hidden),
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        seed=seed,
        threads=threads,
    )
    plan, console = _plan(folder, checkpoint_every, resume), note_console(quiet=quiet)
    in_place = continue_ is not None and continue_.resolve() == folder.resolve()
    if resume and not in_place and _is_done(folder):
        console.print(f"{folder} holds a finished model; there is nothing to do")
        return
    if continue_ is not None:
        _refuse_with_continue(overrides, valid=valid, time_limit=time_limit)
        if dry_run:
            model, examples = _load_further(continue_, data)
            _print_footprint(examples, model.config, model)
            return
        if _continue(continue_, data, folder, 1 if epochs is None else epochs, plan, console):
            raise typer.Exit(INTERRUPTED)
        return
    examples, check = _load(data, valid)
    if dry_run:
        _print_footprint(examples, choose_config(examples.X, examples.Y, overrides))
        return
    if _fit_and_save(examples, check, overrides, folder, time_limit, plan, console):
        raise typer.Exit(INTERRUPTED)


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


def _plan(folder: Path, every: str, resume: bool) -> "CheckpointPlan | None":
    """Where checkpoints go, how often, and whether to begin with one."""
    from slidelearn.checkpoint import CheckpointPlan, parse_interval

    if every == "never":
        if resume:
            raise ConfigError("--resume needs checkpoints, and --checkpoint-every is never")
        return None
    return CheckpointPlan(folder, *parse_interval(every), resume)


def _is_done(folder: Path) -> bool:
    """Whether a run has ended well in a folder, and none has begun after it."""
    from slidelearn.checkpoint import find_checkpoints
    from slidelearn.model_file import read_facts

    if find_checkpoints(folder) or not (folder / "config.json").exists():
        return False
    return not read_facts(folder).get("interrupted", False)


def _load(path: Path, valid: Path | None) -> "tuple[Dataset, Dataset | None]":
    """The training examples, and those to score."""
    from slidelearn.cli.inputs import Columns, load_fitting
    from slidelearn.datasets import load_dataset

    data = load_dataset(path)
    if valid is None:
        return data, None
    columns = Columns(data.X.shape[1], data.Y.shape[1], data.feature_names, data.label_names)
    return data, load_fitting(valid, columns)


def _print_footprint(data: "Dataset", config: "Config", known: "Model | None" = None) -> None:
    """A table of the memory that a run would take, and how much there is.

    ``known`` is the model that it would train further.
    """
    from rich.table import Table

    from slidelearn.footprint import measure_footprint
    from slidelearn.machine import memory_for_process

    # The command gives its data away, but a model that learns more prepares a copy of them.
    network = None if known is None else known.network
    need = measure_footprint(data, config, known=network, copy=known is not None)
    room = memory_for_process()
    table = Table("part", "MiB")
    table.columns[1].justify = "right"
    rows = need._asdict() | {"total": need.total}
    for name, size in (rows if room is None else rows | {"to be had": room}).items():
        table.add_row(name, f"{size / 2**20:,.0f}")
    answer_console().print(table)


def _fit_and_save(
    data: "Dataset",
    valid: "Dataset | None",
    overrides: dict[str, Any],
    folder: Path,
    time_limit: float | None,
    plan: "CheckpointPlan | None",
    console: "Console",
) -> bool:
    """Train and save; whether Ctrl-C ended the training early."""
    from slidelearn.checkpoint import find_checkpoints, remove_checkpoints
    from slidelearn.fitting import fit_model
    from slidelearn.model_file import save_model
    from slidelearn.rules import choose_config

    n_epochs = choose_config(data.X, data.Y, overrides).epochs
    resume = plan is not None and plan.resume
    if not resume and find_checkpoints(folder):
        console.print(f"{folder} has a checkpoint, which --resume would go on from; beginning anew")
    with _watching(folder, console, n_epochs, keep=resume) as (events, last):
        model = fit_model(
            data,
            overrides,
            valid=valid,
            time_limit=time_limit,
            copy=False,
            checkpoints=plan,
            events=events,
        )
        interrupted = bool(model.facts["interrupted"])
        if "recall@5" in last:
            model.facts["recall@5"] = last["recall@5"]
        save_model(model, folder)
        if not interrupted:
            remove_checkpoints(folder)
    console.print(f"model {'so far ' if interrupted else ''}saved in {folder}")
    return interrupted


@contextmanager
def _watching(
    folder: Path, console: "Console", n_epochs: int, *, keep: bool
) -> "Iterator[tuple[FitEvents, dict[str, Any]]]":
    """Show a run of so many epochs and record it: hooks for it, and the last epoch's record.

    The folder and the record are made first: if they cannot be written, nobody should have to wait
    for the end of the training to hear of it. ``keep`` keeps the record of earlier epochs.
    """
    from slidelearn.fitting import FitEvents

    folder.mkdir(parents=True, exist_ok=True)
    record, last = _Record(folder / _METRICS, keep=keep), dict[str, Any]()
    with GracefulStop() as stop, TrainingDisplay(n_epochs, console) as display:

        def show(progress: "Progress") -> None:
            stop.begun = True
            display.show_progress(progress)

        def note(epoch: dict[str, Any]) -> None:
            record.add(epoch)
            display.show_epoch(epoch)
            last.update(epoch)

        yield (
            FitEvents(
                on_progress=show,
                on_epoch=note,
                should_interrupt=lambda: stop.requested,
                on_note=console.print,
            ),
            last,
        )
        record.settle()


def _refuse_with_continue(overrides: dict[str, Any], **options: Any) -> None:
    """A model that is trained further keeps its settings; only the number of epochs is new."""
    given = {name for name, value in options.items() if value is not None}
    given |= overrides.keys() - {"epochs"}
    if given:
        names = ", ".join(sorted(name.replace("_", "-") for name in given))
        raise ConfigError(f"--continue keeps the settings of the model; leave out {names}")


def _load_further(source: Path, data: Path) -> "tuple[Model, Dataset]":
    """A model, and examples that it is to learn from."""
    from slidelearn.cli.inputs import Columns, load_growing
    from slidelearn.model_file import load_model

    model = load_model(source)
    return model, load_growing(data, Columns.of(model))


def _continue(
    source: Path,
    data: Path,
    folder: Path,
    epochs: int,
    plan: "CheckpointPlan | None",
    console: "Console",
) -> bool:
    """Train a model further and save it; whether Ctrl-C ended that early.

    A model that takes its own place is replaced when it is done only: a checkpoint goes on from it.
    """
    from slidelearn.checkpoint import remove_checkpoints
    from slidelearn.fitting import continue_model
    from slidelearn.model_file import save_model

    model, examples = _load_further(source, data)
    in_place, n_labels = folder.resolve() == source.resolve(), model.network.n_labels
    n_epochs = int(model.facts["epochs"]) + epochs
    keep = in_place or (plan is not None and plan.resume)
    with _watching(folder, console, n_epochs, keep=keep) as (events, _):
        model = continue_model(model, examples, epochs=epochs, checkpoints=plan, events=events)
        interrupted = bool(model.facts["interrupted"])
        if interrupted and in_place and plan is not None:
            console.print(f"{folder} is as it was; --resume goes on from the checkpoint in it")
            return True
        save_model(model, folder)
        if not interrupted:
            remove_checkpoints(folder)
    n_new = model.network.n_labels - n_labels
    console.print(
        f"model {'so far ' if interrupted else ''}with {n_new} new labels saved in {folder}"
    )
    return interrupted


class _Record:
    """metrics.jsonl, one object per epoch; ``keep`` keeps those of the epochs before the first.

    Those of another run stay for as long as its model does, even if this one fails.
    """

    def __init__(self, path: Path, *, keep: bool) -> None:
        """Make sure that the file can be written."""
        self._path, self._keep, self._begun = path, keep, False
        with open(path, "a", encoding="utf-8"):
            pass

    def add(self, epoch: dict[str, Any]) -> None:
        """Write the record of an epoch on a line of its own, at once."""
        if not self._begun:
            self._begin(epoch["epoch"])
        with open(self._path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(epoch) + "\n")

    def settle(self) -> None:
        """Drop the records of another run once its model is replaced by one without an epoch."""
        if not self._begun and not self._keep:
            self._begin(0)

    def _begin(self, first: int) -> None:
        """Keep the records of this run before an epoch, and no others."""
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._keep else []
        with atomic_write(self._path) as kept:
            for line in lines:
                if json.loads(line)["epoch"] < first:
                    kept.write(line.encode() + b"\n")
        self._begun = True
