"""Checkpoints: a training run on disk, from which it goes on as if nothing had happened.

A checkpoint is one file with what training moves; the rest, such as the memory and the structure of
the wide path, is made again from the data. It appears whole or not at all, and carries a part of
its checksum in its name. The last two are kept. Those of another run stay until this one has
written its first.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slidelearn.array_file import ArrayFile, encode_arrays
from slidelearn.config import Config
from slidelearn.datasets import Dataset
from slidelearn.divergence import refuse_diverged
from slidelearn.errors import ConfigError, ModelError
from slidelearn.files import write_hashed
from slidelearn.network_arrays import layer_names, name_layers, read_index
from slidelearn.training import EpochSums, Trainer

__all__ = [
    "CheckpointPlan",
    "Checkpoints",
    "find_checkpoints",
    "parse_interval",
    "remove_checkpoints",
]

_KEPT = 2
_SHARE = 0.02  # of the time, at most, that checkpoints take
_SPEED = 150e6  # bytes a second, of a slow disk, that the first one is taken to be written at
_NAME = re.compile(r"checkpoint-(\d+)-([0-9a-f]{16})\.safetensors")
_INTERVAL = re.compile(r"(\d+(?:\.\d+)?)[ -]?(s|m|h|steps?)")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class CheckpointPlan:
    """Where and how often a run leaves checkpoints, and whether it begins with one.

    Attributes
    ----------
    folder : Path
        Where to.
    seconds : float
        At least so long between two of them. They come less often where they would take more than
        2 % of the time. One more follows the last step of a run that has taken so long, if margins
        are then fitted and it takes at most 2 % of the run.
    steps : int or None
        If given, one after every so many steps instead, whatever they take.
    resume : bool
        Begin with the newest checkpoint in the folder, if there is one.
    """

    folder: Path
    seconds: float = 60.0
    steps: int | None = None
    resume: bool = False


def parse_interval(text: str) -> tuple[float, int | None]:
    """Seconds and steps from `60s`, `5m`, `1h` or `500-steps`.

    Examples
    --------
    >>> parse_interval("5m"), parse_interval("500-steps")
    ((300.0, None), (60.0, 500))

    Raises
    ------
    ConfigError
        If the text is none of these, or 0.
    """
    match = _INTERVAL.fullmatch(text.strip())
    number = float(match[1]) if match else 0.0
    if match is None or number <= 0 or (match[2].startswith("step") and number % 1):
        raise ConfigError(
            f"the interval of checkpoints is {text!r}, give a time such as 60s, 5m or 1h, or a "
            "number of steps such as 500-steps"
        )
    if match[2].startswith("step"):
        return CheckpointPlan.seconds, int(number)
    return number * _SECONDS[match[2]], None


class Checkpoints:
    """The checkpoints of one run.

    Parameters
    ----------
    plan : CheckpointPlan
        Where they are and how often they come.
    config : Config
        The run's settings.
    data : Dataset
        What it trains on, as it was loaded.
    first : int
        Steps that the model had done which the run began with.
    """

    def __init__(
        self, plan: CheckpointPlan, config: Config, data: Dataset, *, first: int = 0
    ) -> None:
        """Take the fingerprint of the run; nothing is written or removed yet."""
        self._plan = plan
        self._replaced = [] if plan.resume else find_checkpoints(plan.folder)
        self._run: dict[str, Any] = {
            "config": _settings(config),
            "data": _fingerprint(data),
            "first": first,
        }
        self._began = time.monotonic()
        self._last_step, self._last_time = first, self._began
        self._cost: float | None = None

    def is_due(self, trainer: Trainer, *, ends: bool = False) -> bool:
        """Whether a checkpoint should be written now.

        If the steps have come to their ``ends`` and margins are still to be fitted, the time of
        the whole run counts: a fit that is cut off then costs no steps.
        """
        if self._plan.steps is not None:
            return trainer.step - self._last_step >= self._plan.steps
        before_margins = ends and trainer.config.margin > 0
        waited = time.monotonic() - (self._began if before_margins else self._last_time)
        if waited < self._plan.seconds:
            return False
        if self._cost is None:
            self._cost = sum(array.nbytes for array in _arrays(trainer).values()) / _SPEED
        return waited >= self._cost / _SHARE

    def write(self, trainer: Trainer, seconds: float) -> None:
        """Write a checkpoint of a run that has trained for so many seconds, between two steps.

        Raises
        ------
        ModelError
            If that is not possible; the one before is whole.
        SlideError
            If the network has diverged; the one before is from when it had not.
        """
        began = time.monotonic()
        refuse_diverged(trainer)
        progress = {
            "epoch": trainer.epoch,
            "step": trainer.step,
            "seconds": seconds,
            "index_seconds": trainer.index_seconds,
            "sums": None if trainer.sums is None else [trainer.sums.done, trainer.sums.loss],
        }
        parts = encode_arrays(_arrays(trainer), json.dumps(self._run | {"progress": progress}))
        folder, step = self._plan.folder, trainer.step
        try:
            write_hashed(
                folder, lambda digits: f"checkpoint-{step:09d}-{digits}.safetensors", parts
            )
            _unlink(self._replaced)
            remove_checkpoints(folder, keep=_KEPT)
        except OSError as error:
            raise ModelError(
                f"{folder}: a checkpoint cannot be written ({error.strerror})"
            ) from None
        self._last_step, self._last_time = trainer.step, time.monotonic()
        self._cost = self._last_time - began

    def restore(self, trainer: Trainer, note: Callable[[str], None]) -> bool:
        """Bring a run that has just started to where the newest whole checkpoint is, if it should.

        Parameters
        ----------
        trainer : Trainer
            From `Trainer.start`, with the same settings and data.
        note : callable
            Told of every damaged checkpoint that was passed over.

        Returns
        -------
        bool
            Whether there was one.

        Raises
        ------
        ModelError
            If it is of other data or other settings.
        """
        for path in reversed(find_checkpoints(self._plan.folder)) if self._plan.resume else ():
            file = self._open(path)
            if file is None:
                note(f"{path}: damaged, trying the one before")
                continue
            state = json.loads(file.note)
            self._check_run(path, state)
            _restore(trainer, file, path, state["progress"])
            self._last_step, self._last_time = trainer.step, time.monotonic()
            return True
        return False

    def _open(self, path: Path) -> ArrayFile | None:
        """Map a checkpoint; None if it is not what its name says."""
        match = _NAME.fullmatch(path.name)
        assert match is not None
        try:
            with open(path, "rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            return ArrayFile(path) if digest.startswith(match[2]) else None
        except (OSError, ModelError):
            return None

    def _check_run(self, path: Path, state: dict[str, Any]) -> None:
        """Refuse a checkpoint of another run."""
        if state["data"] != self._run["data"]:
            raise ModelError(f"{path}: was written for other data; train without --resume")
        if state.get("first", 0) != self._run["first"]:
            raise ModelError(f"{path}: was written for another model; train without --resume")
        ours, theirs = self._run["config"], state["config"]
        for name in ours:
            if theirs.get(name) != ours[name]:
                raise ModelError(
                    f"{path}: was written with {name} {theirs.get(name)!r}, this run has "
                    f"{ours[name]!r}; give the same settings, or train without --resume"
                )


def find_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints in a folder, the newest last."""
    if not folder.is_dir():
        return []
    return [
        folder / name for name in sorted(p.name for p in folder.iterdir()) if _NAME.fullmatch(name)
    ]


def remove_checkpoints(folder: Path, keep: int = 0) -> None:
    """Remove the checkpoints in a folder, but for the newest ones."""
    found = find_checkpoints(folder)
    _unlink(found[: len(found) - keep])


def _unlink(paths: list[Path]) -> None:
    for path in paths:
        with suppress(PermissionError):  # of Windows, while the file is mapped
            path.unlink(missing_ok=True)


def _settings(config: Config) -> dict[str, Any]:
    """What decides the result of a run; threads do not."""
    settings: dict[str, Any] = json.loads(json.dumps(config.to_dict()))
    settings.pop("threads")
    return settings


def _fingerprint(data: Dataset) -> str:
    """A checksum of examples and labels."""
    digest = hashlib.sha256(repr((data.X.shape, data.Y.shape)).encode())
    for matrix in (data.X, data.Y):
        for array in (matrix.indptr, matrix.indices, matrix.data):
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _arrays(trainer: Trainer) -> dict[str, NDArray[Any]]:
    """Everything that training has moved, by name."""
    network = trainer.network
    arrays = name_layers(network) | _moving(trainer)
    if trainer.rivals is not None:
        arrays["rivals"] = trainer.rivals
    if trainer.sums is not None:
        arrays["active"] = trainer.sums.active
    for depth, moved in enumerate(trainer.moved):
        arrays[f"moved.{depth}"] = np.flatnonzero(moved)
    return arrays


def _moving(trainer: Trainer) -> dict[str, NDArray[Any]]:
    """Arrays beside the layers whose numbers training moves, and whose shapes it does not."""
    network, prior = trainer.network, trainer.prior
    arrays: dict[str, NDArray[Any]] = {"mean": network.mean}
    if network.wide is not None:
        arrays |= {"wide.weights": network.wide.weights, "wide.squares": network.wide.squares}
    if network.postings is not None:
        arrays |= {f"postings.{part}": a for part, a in network.postings._asdict().items()}
    if prior is not None:
        arrays |= {"prior.bias": prior.bias, "prior.squares": prior.squares}
    return arrays


def _restore(trainer: Trainer, file: ArrayFile, path: Path, progress: dict[str, Any]) -> None:
    """Put what a checkpoint holds in the place of what a run starts with."""
    network = trainer.network
    same_shape = _moving(trainer) | {
        name: array for name, array in name_layers(network).items() if ".index." not in name
    }
    for name, array in same_shape.items():
        np.copyto(array, file.take(name, array.dtype.type, array.shape))
    layers, indexes = (*network.hidden, network.output), list(network.indexes)
    for depth, name in enumerate(layer_names(network)):
        index, size = indexes[depth], (layers[depth].n_out, layers[depth].n_in)
        if index is not None and index.tables is not None:
            indexes[depth] = read_index(file, path, name, index.config, size)
    trainer.network = network._replace(indexes=tuple(indexes))
    for depth, moved in enumerate(trainer.moved):
        moved[file.take(f"moved.{depth}", np.int64, (None,))] = True
    if "rivals" in file:
        trainer.rivals = np.array(file.take("rivals", np.int32, (None, None)))
    if progress["sums"] is not None:
        done, loss = progress["sums"]
        active = np.array(file.take("active", np.int64, (len(layers),)))
        trainer.sums = EpochSums(done, loss, active)
    trainer.epoch, trainer.step = progress["epoch"], progress["step"]
    trainer.seconds, trainer.index_seconds = progress["seconds"], progress["index_seconds"]
