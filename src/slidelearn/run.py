"""Run: a training run under way: epochs, what follows them, limits, Ctrl-C and checkpoints."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import slidelearn
from slidelearn.checkpoint import Checkpoints
from slidelearn.datasets import Dataset
from slidelearn.divergence import refuse_diverged
from slidelearn.reach import Reach
from slidelearn.training import EpochReport, Progress, Trainer
from slidelearn.trimming import trim_memory
from slidelearn.validation import Check
from slidelearn.workers import Workers

__all__ = ["FitEvents", "Run"]


class FitEvents(NamedTuple):
    """What a caller of `fit_model` may hook into.

    Attributes
    ----------
    on_progress : callable, optional
        Called with a `Progress` after every step.
    on_epoch : callable, optional
        Called after every epoch with its record, a dict of plain values.
    should_stop : callable, optional
        Asked after every step; True ends the training, and the model so far is returned.
    should_interrupt : callable, optional
        Asked after every step and within longer work; True is like Ctrl-C, but never cuts a step:
        with checkpoints, one is written.
    on_note : callable, optional
        Called with a line for a person about checkpoints.
    """

    on_progress: Callable[[Progress], None] | None = None
    on_epoch: Callable[[dict[str, Any]], None] | None = None
    should_stop: Callable[[], bool] | None = None
    should_interrupt: Callable[[], bool] | None = None
    on_note: Callable[[str], None] | None = None

    def note(self, line: str) -> None:
        """Tell a person something, if anybody listens."""
        if self.on_note is not None:
            self.on_note(line)


@dataclass
class Run:
    """A training run under way: what trains, on which data, and who wants to know about it."""

    trainer: Trainer
    data: Dataset  # features ready for the network
    check: Check
    events: FitEvents
    compile_seconds: float
    time_limit: float = math.inf
    whole: Dataset | None = None  # the data, and behind them examples for calibration
    saver: Checkpoints | None = None
    stopped: bool = False
    interrupted: bool = False
    gives_up: bool = False  # what was learned is not wanted any more
    measures: bool = True  # whether it is measured at the end how far searches must go
    reaches: list[Reach] = field(default_factory=list)
    epoch_began: float | None = None  # None between epochs
    last_epoch: bool = False
    filed: bool = False  # whether tables have all neurons where they are

    def train(self, epochs: int, workers: Workers) -> None:
        """Run epochs until they are done, a limit is reached or Ctrl-C is pressed."""
        for number in range(epochs):
            try:
                self.epoch_began, self.filed = time.perf_counter(), False
                self.last_epoch = number == epochs - 1
                done = self.trainer.run_epoch(
                    self.data.X, self.data.Y, workers, show=self.show, stop=self.stop
                )
                self.epoch_began = None
                last = self.stopped or self.last_epoch
                if last or not self.trainer.tables_follow:
                    self.refresh(workers)
                if last:
                    with workers.interruptible(self.events.should_interrupt):
                        self.finish(workers)
                    self.trainer.keep_rows(workers)
                self.tell(done, workers, last=last)
            except KeyboardInterrupt:
                if self.gives_up:
                    raise
                self.trainer.seconds = self.elapsed()
                self.interrupted = self.stopped = True
                if not self.filed:
                    self.refresh(workers)
                self.trainer.keep_rows(workers)
            if self.stopped:
                return

    def finish(self, workers: Workers) -> None:
        """Fit and weigh what is added to the network's predictions."""
        self.trainer.fit_margins(self.data.X, self.data.Y, workers)
        if self.whole is not None:
            n = self.data.X.shape[0]
            self.trainer.calibrate(self.whole.X, self.whole.Y, n, workers)
        trim_memory()

    def elapsed(self) -> float:
        """Seconds of training so far, also in the middle of an epoch."""
        now = time.perf_counter()
        return self.trainer.seconds + (0.0 if self.epoch_began is None else now - self.epoch_began)

    def show(self, progress: Progress) -> None:
        """Pass progress on, and give up if the network has diverged."""
        if not math.isfinite(progress.loss):
            refuse_diverged(self.trainer, progress.loss)
        if self.events.on_progress is not None:
            self.events.on_progress(progress)

    def stop(self) -> bool:
        """Say whether this step is the last, and leave a checkpoint where one is due."""
        interrupt, stop = self.events.should_interrupt, self.events.should_stop
        interrupted = interrupt is not None and interrupt()
        self.stopped = (stop is not None and stop()) or self.elapsed() >= self.time_limit
        if self.saver is not None and (
            interrupted or self.saver.is_due(self.trainer, ends=self.stopped or self.epochs_end())
        ):
            self.gives_up = interrupted  # if Ctrl-C comes once more
            self.saver.write(self.trainer, self.elapsed())
            self.gives_up = False
        if interrupted:
            raise KeyboardInterrupt
        return self.stopped

    def epochs_end(self) -> bool:
        """Whether this step is the last of the last epoch."""
        sums = self.trainer.sums
        return self.last_epoch and sums is not None and sums.done == self.data.X.shape[0]

    def refresh(self, workers: Workers) -> None:
        """File all neurons where they have ended up, so that prediction finds them."""
        before = self.trainer.index_seconds
        for depth in range(len(self.trainer.network.indexes)):
            self.trainer.fit_index(depth, self.data.X, workers)
        self.trainer.seconds += self.trainer.index_seconds - before
        self.filed = True

    def tell(self, done: EpochReport, workers: Workers, *, last: bool) -> None:
        """Measure and pass on the record of an epoch; at the end, how far searches must go."""
        last = last and self.measures
        if self.events.on_epoch is None and not last:
            return
        measured, reaches = self.check.measure(self.trainer, workers, last=last)
        if last:
            self.reaches = reaches
        if self.events.on_epoch is None:
            return
        record = {
            "epoch": done.epoch,
            "train_seconds": self.trainer.seconds,
            "compile_seconds": self.compile_seconds,
            "examples_per_second": done.examples_per_second,
            "loss": done.loss,
            "active_share": list(done.active_share),
            "index_seconds": self.trainer.index_seconds,
        }
        self.events.on_epoch(record | measured)

    def facts(self) -> dict[str, Any]:
        """What the model keeps about the run."""
        return {
            "n_features": self.trainer.network.n_features,
            "n_labels": self.trainer.network.n_labels,
            "epochs": self.trainer.epoch,
            "steps": self.trainer.step,
            "train_seconds": self.trainer.seconds,
            "compile_seconds": self.compile_seconds,
            "interrupted": self.interrupted,
            "reaches": [list(reach) for reach in self.reaches],
            "slidelearn": slidelearn.__version__,
        }
