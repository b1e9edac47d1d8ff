"""Checkpoints: a run that was cut off ends as if it had not been."""

import os
import random
import re
import signal
import time

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.sparse import csr_matrix

from models import assert_same_arrays
from problems import clusters
from slidelearn import checkpoint as checkpoint_module
from slidelearn.checkpoint import (
    CheckpointPlan,
    Checkpoints,
    find_checkpoints,
    parse_interval,
    remove_checkpoints,
)
from slidelearn.datasets import Dataset
from slidelearn.errors import ConfigError, ModelError, SlideError
from slidelearn.fitting import FitEvents, continue_model, fit_model
from slidelearn.rules import choose_config
from slidelearn.training import Trainer
from slidelearn.workers import Workers

QUICK = {"hidden": [24], "tail": 10, "wide": 10.0, "epochs": 2, "batch_size": 64, "threads": 1}
KINDS = {
    "default": {},
    "calibrated": {"calibration": 40},
    "trained tables": {"wide": 0, "tables": {"limit": 8, "rebuild_every": 3}},
    "hashed hidden": {
        "hidden_tables": {"family": "simhash", "k": 3, "l": 4, "rebuild_every": 4},
        "optimizer": "adam",
        "lr": 0.01,
        "hidden_lr": 0.01,
    },
    "no tables": {"tail": 100, "wide": 0, "loss": "bce", "neighbours": 0},
}


def problem():
    X, Y, _ = clusters()
    return Dataset(X, Y)


def cut_off(folder, settings, step, every=1):
    """Train until some step is done, and leave checkpoints."""
    done = []
    events = FitEvents(on_progress=done.append, should_interrupt=lambda: len(done) >= step)
    plan = CheckpointPlan(folder, steps=every)
    return fit_model(problem(), settings, checkpoints=plan, events=events)


def resume(folder, settings, notes=None):
    events = FitEvents(on_note=(notes if notes is not None else []).append)
    return fit_model(
        problem(), settings, checkpoints=CheckpointPlan(folder, resume=True), events=events
    )


def assert_same(a, b):
    assert_same_arrays(a, b)
    assert a.config == b.config
    assert (a.facts["epochs"], a.facts["steps"]) == (b.facts["epochs"], b.facts["steps"])


def assert_resumed(notes, steps):
    assert len(notes) == 1
    assert re.fullmatch(rf"resumed after {steps} steps, \d+ s of training", notes[0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_ends_with_the_same_bits(kind, tmp_path):
    settings = QUICK | KINDS[kind]
    whole = fit_model(problem(), settings)
    n_steps = whole.facts["steps"]
    for step in (1, n_steps // 2, n_steps // 2 + 1, n_steps - 1, n_steps):
        folder = tmp_path / str(step)
        folder.mkdir()
        part = cut_off(folder, settings, step)
        assert part.facts["interrupted"]
        assert part.facts["steps"] == step
        notes = []
        model = resume(folder, settings | {"threads": 2}, notes)
        assert_resumed(notes, step)
        assert not model.facts["interrupted"]
        model.config = whole.config
        assert_same(model, whole)


@pytest.mark.parametrize("asked", [True, False])
def test_ctrl_c_while_a_checkpoint_is_written(asked, tmp_path, monkeypatch):
    """The second one gives up; the first one, of a caller who has no other way, does not."""
    settings, write = QUICK | {"epochs": 1}, Checkpoints.write

    def press(saver, trainer, seconds):
        if trainer.step == 3:
            raise KeyboardInterrupt
        write(saver, trainer, seconds)

    monkeypatch.setattr(Checkpoints, "write", press)
    if asked:
        with pytest.raises(KeyboardInterrupt):
            cut_off(tmp_path, settings, 3)
    else:
        assert cut_off(tmp_path, settings, 5).facts["interrupted"]
    assert [path.name[:20] for path in find_checkpoints(tmp_path)] == [
        f"checkpoint-00000000{step}" for step in (1, 2)
    ]


@pytest.mark.parametrize("kind", ["default", "calibrated", "trained tables"])
@pytest.mark.parametrize("asked", [1, 20])
def test_margins_that_are_cut_off_cost_no_steps(kind, asked, tmp_path, monkeypatch):
    """Ctrl-C while they are fitted: what was learned is there, and only they are left to do."""
    settings, questions = QUICK | KINDS[kind], []
    whole = fit_model(problem(), settings)
    fit_margins, fit_index = Trainer.fit_margins, Trainer.fit_index
    tables = []

    def watched_fit(*args):
        questions.append("margins")
        tables.clear()
        fit_margins(*args)

    def interrupt():
        questions.append("?")
        return "margins" in questions and questions[::-1].index("margins") == asked

    monkeypatch.setattr(Checkpoints, "is_due", lambda *_, ends: ends)
    monkeypatch.setattr(Trainer, "fit_margins", watched_fit)
    monkeypatch.setattr(Trainer, "fit_index", lambda *a: (tables.append(a), fit_index(*a)))
    events = FitEvents(should_interrupt=interrupt)
    part = fit_model(problem(), settings, checkpoints=CheckpointPlan(tmp_path), events=events)
    monkeypatch.undo()
    assert part.facts["interrupted"]
    assert part.network.margins is None
    assert tables == []  # they were as they should be
    assert_allclose(part.network.output.weight[:, :-1], whole.network.output.weight[:, :-1])
    found = part.predict_topk(problem().X, 1).labels
    assert (found == whole.predict_topk(problem().X, 1).labels).mean() > 0.9
    notes = []
    assert_same(resume(tmp_path, settings, notes), whole)
    assert_resumed(notes, whole.facts["steps"])


def test_an_older_checkpoint_serves_where_the_newest_is_damaged(tmp_path):
    whole = fit_model(problem(), QUICK)
    cut_off(tmp_path, QUICK, 5)
    old, new = find_checkpoints(tmp_path)
    data = bytearray(new.read_bytes())
    data[-100] ^= 1
    new.write_bytes(data)
    notes = []
    assert_same(resume(tmp_path, QUICK, notes), whole)
    assert notes[0] == f"{new}: damaged, trying the one before"
    assert notes[1].startswith("resumed after 4 steps")
    for path in (old, new):
        path.write_bytes(path.read_bytes()[:-1])
    assert_same(resume(tmp_path, QUICK, notes), whole)
    assert len([note for note in notes if note.startswith("resumed")]) == 1


def test_two_checkpoints_are_kept_and_those_of_others_replaced(tmp_path):
    (tmp_path / "checkpoint-of-mine").write_text("mine")
    cut_off(tmp_path, QUICK, 6)
    steps = [int(path.name.split("-")[1]) for path in find_checkpoints(tmp_path)]
    assert steps == [5, 6]
    cut_off(tmp_path, QUICK | {"seed": 1}, 2)
    steps = [int(path.name.split("-")[1]) for path in find_checkpoints(tmp_path)]
    assert steps == [1, 2]
    remove_checkpoints(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-of-mine"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.5}, "was written with lr 0.03, this run has 0.5"),
        ({"seed": 7}, "was written with seed 0, this run has 7"),
    ],
)
def test_a_checkpoint_of_other_settings_is_refused(tmp_path, change, message):
    cut_off(tmp_path, QUICK, 2)
    with pytest.raises(ModelError, match=message):
        resume(tmp_path, QUICK | change)


def test_a_checkpoint_of_other_data_is_refused(tmp_path):
    cut_off(tmp_path, QUICK, 2)
    X, Y, _ = clusters(seed=1)
    with pytest.raises(ModelError, match="was written for other data"):
        fit_model(Dataset(X, Y), QUICK, checkpoints=CheckpointPlan(tmp_path, resume=True))


def test_without_a_checkpoint_a_run_begins_anew(tmp_path):
    notes = []
    assert_same(resume(tmp_path / "nowhere", QUICK, notes), fit_model(problem(), QUICK))
    assert notes == []


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    write_hashed, calls = checkpoint_module.write_hashed, []

    def full_after_two(folder, name, parts):
        calls.append(folder)
        if len(calls) > 2:
            raise OSError(28, "No space left on device")
        return write_hashed(folder, name, parts)

    monkeypatch.setattr(checkpoint_module, "write_hashed", full_after_two)
    with pytest.raises(ModelError, match=r"cannot be written \(No space left on device\)"):
        cut_off(tmp_path, QUICK, 9)
    monkeypatch.undo()
    assert_same(resume(tmp_path, QUICK), fit_model(problem(), QUICK))


def test_checkpoints_by_time_take_no_more_than_their_share(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    config, data = choose_config(problem().X, problem().Y, QUICK), problem()
    with Workers(1) as workers:
        trainer = Trainer.start(config, data.X, data.Y, workers)
    saver = Checkpoints(CheckpointPlan(tmp_path, seconds=60), config, data)
    now[0] = 59.0
    assert not saver.is_due(trainer)
    now[0] = 60.0
    assert saver.is_due(trainer)  # small, so the first is taken to cost next to nothing
    saver._last_time, saver._cost = 60.0, 5.0
    now[0] = 249
    assert not saver.is_due(trainer, ends=True)
    now[0] = 250  # it takes 2 % of the whole run
    assert saver.is_due(trainer, ends=True)
    now[0] = 60 + 249
    assert not saver.is_due(trainer)
    now[0] = 60 + 250
    assert saver.is_due(trainer)
    monkeypatch.setattr(checkpoint_module, "_SPEED", 100.0)
    saver = Checkpoints(CheckpointPlan(tmp_path, seconds=60), config, data)
    now[0] += 60
    assert not saver.is_due(trainer)  # and a large one is waited for


def test_a_model_that_learns_more_is_resumed_with_the_same_bits(tmp_path):
    more = Dataset(*clusters(n=200, seed=1)[:2])
    more = more._replace(Y=csr_matrix((more.Y.data, more.Y.indices, more.Y.indptr), (200, 43)))
    more.Y.indices[:6] = [40, 40, 41, 41, 42, 42]  # new labels
    whole = continue_model(fit_model(problem(), QUICK), more, epochs=2)
    done = []
    events = FitEvents(on_progress=done.append, should_interrupt=lambda: len(done) >= 5)
    plan = CheckpointPlan(tmp_path, steps=2)
    part = continue_model(
        fit_model(problem(), QUICK), more, epochs=2, checkpoints=plan, events=events
    )
    assert part.facts["interrupted"]
    plan = CheckpointPlan(tmp_path, resume=True)
    with pytest.raises(ModelError, match="was written for another model"):
        continue_model(part, more, epochs=2, checkpoints=plan)
    resumed = continue_model(fit_model(problem(), QUICK), more, epochs=2, checkpoints=plan)
    assert_same(resumed, whole)


def test_a_network_that_has_diverged_leaves_the_checkpoint_before(tmp_path):
    cut_off(tmp_path, QUICK, 3)
    kept = find_checkpoints(tmp_path)
    data = problem()
    config = choose_config(data.X, data.Y, QUICK)
    with Workers(1) as workers:
        trainer = Trainer.start(config, data.X, data.Y, workers)
    trainer.network.output.weight[3, 2] = np.nan
    saver = Checkpoints(CheckpointPlan(tmp_path, resume=True), config, data)
    with pytest.raises(SlideError, match=r"diverged in epoch 1 .* in the output layer .* lr 0\.03"):
        saver.write(trainer, 1.0)
    assert find_checkpoints(tmp_path) == kept


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("60s", (60, None)), ("1.5m", (90, None)), ("2h", (7200, None)),
        ("500-steps", (60, 500)), ("1 step", (60, 1)), (" 20 steps", (60, 20)),
    ],
)  # fmt: skip
def test_intervals(text, expected):
    assert parse_interval(text) == expected


@pytest.mark.parametrize("text", ["", "60", "s", "0s", "-5s", "0-steps", "1.5-steps", "5 days"])
def test_what_is_no_interval(text):
    with pytest.raises(ConfigError, match="give a time such as 60s"):
        parse_interval(text)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_that_is_killed_again_and_again_ends_with_the_same_bits(tmp_path):
    """Twenty times at random moments; with a checkpoint at every step many are in one."""
    settings = QUICK | {"epochs": 6}
    whole = fit_model(problem(), settings)
    rng, kills, began = random.Random(0), 0, time.monotonic()
    while kills < 20 and time.monotonic() - began < 120:
        child = os.fork()
        if child == 0:
            plan = CheckpointPlan(tmp_path, steps=1, resume=True)
            try:
                fit_model(problem(), settings, checkpoints=plan)
            finally:
                os._exit(0)
        time.sleep(rng.uniform(0.0, 0.25))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):  # the run had ended
            remove_checkpoints(tmp_path)
        kills += os.WIFSIGNALED(status)
    assert kills == 20
    assert_same(resume(tmp_path, settings), whole)
