"""Display: the two streams of the command line, and a training run as a person sees it."""

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from slidelearn.training import Progress as TrainingProgress

__all__ = ["TrainingDisplay", "answer_console", "note_console"]

_PLAIN_WIDTH = 120  # of tables in files and pipes


def answer_console() -> Console:
    """Standard output, for what a command promises; names in it are never taken for markup."""
    width = None if sys.stdout.isatty() else _PLAIN_WIDTH
    return Console(width=width, highlight=False, markup=False, emoji=False)


def note_console(*, quiet: bool = False) -> Console:
    """Standard error, for progress and notes; lines are not broken. ``quiet`` drops them all."""
    return Console(
        stderr=True, quiet=quiet, highlight=False, markup=False, emoji=False, soft_wrap=True
    )


class TrainingDisplay:
    """A progress bar and a line per epoch; without a terminal, the lines alone.

    Use as a context manager, and pass its methods to a training run.

    Parameters
    ----------
    epochs : int
        How many the run will have at most.
    console : Console
        Where to show them.

    Examples
    --------
    >>> import sys
    >>> with TrainingDisplay(2, Console(file=sys.stdout)) as display:
    ...     display.show_epoch({"epoch": 1, "loss": 0.5, "examples_per_second": 1000.0})
    epoch 1/2  loss 0.5000  1,000 examples/s
    """

    def __init__(self, epochs: int, console: Console) -> None:
        """Remember what to show, and where."""
        self._epochs = epochs
        self._console = console
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> Self:
        """Show the bar, if there is a terminal to show it on."""
        if self._console.is_terminal and not self._console.quiet:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f} %"),
                TextColumn("{task.fields[state]}"),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            self._task = self._bar.add_task("preparing", total=None, state="")
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()

    def show_progress(self, progress: "TrainingProgress") -> None:
        """Move the bar."""
        if self._bar is None:
            return
        self._bar.update(
            self._task,
            description=f"epoch {progress.epoch}/{self._epochs}",
            total=self._epochs * progress.total,
            completed=(progress.epoch - 1) * progress.total + progress.done,
            state=f"{progress.examples_per_second:,.0f} examples/s  loss {progress.loss:.3f}",
        )

    def show_epoch(self, record: dict[str, Any]) -> None:
        """Print the line of an epoch that is over; what the record lacks is left out."""
        self._console.print(_epoch_line(record, self._epochs), highlight=False)


def _epoch_line(record: dict[str, Any], epochs: int) -> str:
    """One epoch in one line."""
    parts = [f"epoch {record['epoch']}/{epochs}", f"loss {record['loss']:.4f}"]
    parts += [f"P@{k} {record[f'p@{k}']:.2f}" for k in (1, 3, 5) if f"p@{k}" in record]
    if "recall@5" in record:
        parts.append(f"recall@5 of the index {record['recall@5']:.3f}")
    if "active_share" in record:
        parts.append(f"active {100 * record['active_share'][-1]:.2f} %")
    parts.append(f"{record['examples_per_second']:,.0f} examples/s")
    if "train_seconds" in record:
        parts.append(f"{record['train_seconds']:.1f} s")
    return "  ".join(parts)
