"""The command line's contract: what each command prints, writes and returns."""

import errno
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from models import assert_same_arrays
from slidelearn.checkpoint import find_checkpoints
from slidelearn.cli import main
from slidelearn.cli.interrupt import GracefulStop
from slidelearn.cli.train import _Record
from slidelearn.datasets import Dataset, load_dataset, save_dataset
from slidelearn.model_file import load_model

N_LABELS, N_FEATURES = 12, 20
RECORD = {"epoch", "train_seconds", "compile_seconds", "examples_per_second", "loss"}
SCORES = {f"{name}@{k}" for name in ("p", "psp") for k in (1, 3, 5)}
MEASURES = {"n_examples", "seconds", "ms_per_example", "active_share", "recall@5"}
CONFIG = """
hidden = [16]
tail = 4
epochs = 3
batch_size = 16
[tables]
n_buckets = 4
predict_probes = 3
"""


def problem(n: int, seed: int) -> Dataset:
    """Every label has a feature of its own; the rest is noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, N_LABELS, n)
    X = np.zeros((n, N_FEATURES), np.float32)
    X[np.arange(n), labels] = 1
    X[np.arange(n), rng.integers(N_LABELS, N_FEATURES, n)] = 0.25
    Y = np.zeros((n, N_LABELS), np.uint8)
    Y[np.arange(n), labels] = 1
    return Dataset(csr_matrix(X), csr_matrix(Y))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with train.txt, test.txt, fast.toml and the model folder `model`."""
    folder = tmp_path_factory.mktemp("cli")
    save_dataset(problem(200, 0), folder / "train.txt")
    save_dataset(problem(50, 1), folder / "test.txt")
    (folder / "fast.toml").write_text(CONFIG)
    assert train(folder, "model", "--valid", folder / "test.txt") == 0
    return folder


def train(files, name, *options) -> int:
    return run("train", files / "train.txt", "--model", files / name, "--config",
               files / "fast.toml", *options)  # fmt: skip


def run(*words) -> int:
    return main([str(word) for word in words])


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_one_line(capsys, *parts):
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("slide: error: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    for part in parts:
        assert str(part) in err


# train


def test_train_writes_a_model_and_one_record_per_epoch(files, capsys):
    assert train(files, "fresh", "--seed", 3, "--valid", files / "test.txt") == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "epoch 3/3" in err
    found = records(files / "fresh")
    assert [record["epoch"] for record in found] == [1, 2, 3]
    for record in found:
        assert set(record) >= RECORD | SCORES | {"active_share", "recall@5"}
        assert len(record["active_share"]) == 2
    assert found[0]["train_seconds"] < found[1]["train_seconds"]
    assert found[-1]["p@1"] > 80
    model = load_model(files / "fresh")
    assert model.config.seed == 3
    assert model.facts["recall@5"] == found[-1]["recall@5"]


def test_train_again_replaces_the_records(files):
    for epochs in (2, 1):
        assert train(files, "again", "--epochs", epochs) == 0
        assert len(records(files / "again")) == epochs
    assert not SCORES & set(records(files / "again")[0])


def test_a_run_that_fails_leaves_the_records_of_the_model_that_stays(files):
    assert train(files, "stays", "--epochs", 1) == 0
    before = records(files / "stays")
    assert train(files, "stays", "--epochs", 1, "--time-limit", 0) == 1
    assert records(files / "stays") == before


def test_a_model_without_an_epoch_has_no_records(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1}\n')
    _Record(tmp_path / "metrics.jsonl", keep=True).settle()
    assert records(tmp_path) == [{"epoch": 1}]
    _Record(tmp_path / "metrics.jsonl", keep=False).settle()
    assert records(tmp_path) == []


def test_options_win_over_the_settings_file(files):
    options = ("--hidden", "8,6", "--epochs", 1, "--batch-size", 50, "--lr", 0.5, "--threads", 1)
    assert train(files, "options", *options) == 0
    config = load_model(files / "options").config
    assert (config.hidden, config.epochs, config.batch_size) == ((8, 6), 1, 50)
    assert (config.lr, config.threads, config.tail) == (0.5, 1, 4)


def test_time_limit_ends_the_training(files):
    began = time.monotonic()
    assert train(files, "limited", "--epochs", 10_000_000, "--time-limit", 0.3) == 0
    assert time.monotonic() - began < 60
    assert records(files / "limited")[-1]["train_seconds"] >= 0.85 * 0.3  # the rest is for margins


def test_quiet_prints_nothing(files, capsys):
    assert train(files, "quiet", "--epochs", 1, "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_ctrl_c_saves_a_usable_model(files):
    folder = files / "interrupted"
    words = ["train", files / "train.txt", "--model", folder, "--config", files / "fast.toml"]
    command = [sys.executable, "-m", "slidelearn", *map(str, words), "--epochs", "10000000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while not (folder / "metrics.jsonl").exists() or not records(folder):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    assert load_model(folder).facts["epochs"] == records(folder)[-1]["epoch"]
    assert run("evaluate", folder, files / "test.txt", "--json") == 0


def test_second_ctrl_c_gives_up_and_the_handler_is_restored(capfd):
    before = signal.getsignal(signal.SIGINT)
    with GracefulStop() as stop:
        with pytest.raises(KeyboardInterrupt):  # there is nothing to save
            signal.raise_signal(signal.SIGINT)
        assert not stop.requested
        stop.begun = True
        signal.raise_signal(signal.SIGINT)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    assert "Ctrl-C again" in capfd.readouterr().err


def test_after_ctrl_c_the_process_does_not_wait_for_its_threads():
    code = (
        "import threading, time\n"
        "from slidelearn import __main__ as command\n"
        "threading.Thread(target=time.sleep, args=(3600,)).start()\n"
        "command.main = lambda: 130\n"
        "command.run()\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 130


def test_a_run_that_was_killed_is_resumed(files, capsys):
    options = ("--epochs", 40, "--threads", 1)
    assert train(files, "whole", *options) == 0
    folder = files / "killed"
    words = ["train", files / "train.txt", "--model", folder, "--config", files / "fast.toml"]
    words += [*options, "--checkpoint-every", "3-steps"]
    command = [sys.executable, "-m", "slidelearn", *map(str, words)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 120
        while not folder.exists() or len(find_checkpoints(folder)) < 2:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    capsys.readouterr()
    assert train(files, "killed", *options, "--resume") == 0
    assert "resumed after" in capsys.readouterr().err
    assert not find_checkpoints(folder)
    assert [record["epoch"] for record in records(folder)] == list(range(1, 41))
    assert_same_arrays(load_model(files / "whole"), load_model(folder))
    assert train(files, "killed", *options, "--resume") == 0
    assert "holds a finished model; there is nothing to do" in capsys.readouterr().err


def test_a_run_that_begins_anew_says_so_where_a_checkpoint_is(files, capsys):
    folder = files / "anew"
    folder.mkdir()
    left = folder / f"checkpoint-000000001-{16 * '0'}.safetensors"
    left.write_text("")
    assert train(files, "anew", "--epochs", 1) == 0
    assert "has a checkpoint, which --resume would go on from" in capsys.readouterr().err
    assert not left.exists()


def test_continue_learns_new_labels_and_keeps_the_old(files, capsys):
    X, Y = problem(200, 5)[:2]
    more = csr_matrix((200, 1), dtype=np.uint8).tolil()
    more[::2] = 1
    names = [f"label {i}" for i in range(N_LABELS)]
    save_dataset(Dataset(X, Y, names), files / "named.parquet")
    new = np.hstack([Y.toarray() * (np.arange(200) % 2 == 1)[:, None], more.toarray()])
    save_dataset(
        Dataset(X, csr_matrix(new.astype(np.uint8)), [*names, "new"]), files / "more.parquet"
    )
    model, grown = files / "named", files / "grown"
    options = ("--config", files / "fast.toml")
    assert run("train", files / "named.parquet", "--model", model, *options) == 0
    capsys.readouterr()
    words = ("train", files / "more.parquet", "--model", grown, "--continue", model)
    assert run(*words, "--epochs", 2) == 0
    assert "model with 1 new labels saved" in capsys.readouterr().err
    loaded = load_model(grown)
    assert loaded.label_names == [*names, "new"]
    assert loaded.facts["epochs"] == 5
    assert [record["epoch"] for record in records(grown)] == [4, 5]
    assert run(*words, "--lr", 0.1, "--valid", files / "test.txt") == 1
    assert_one_line(capsys, "--continue keeps the settings of the model; leave out lr, valid")
    bare = ("train", files / "train.txt", "--model", grown, "--continue", model)
    assert run(*bare) == 1
    assert_one_line(capsys, "the model has label names and")


class StopsSoon:
    """Ctrl-C after a few steps."""

    asked = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    @property
    def requested(self):
        self.asked += 1
        return self.asked > 4


@pytest.mark.parametrize("in_place", [True, False])
def test_continue_is_interrupted_and_resumed(files, capsys, monkeypatch, in_place):
    first = files / f"first {in_place}"
    target = first if in_place else files / "further"
    assert train(files, first.name, "--epochs", 1) == 0
    more = ("train", files / "train.txt", "--continue", first, "--model", target, "--epochs", 2)
    assert run(*more[:-4], "--model", files / "at once", *more[-2:]) == 0
    monkeypatch.setattr(sys.modules["slidelearn.cli.train"], "GracefulStop", StopsSoon)
    before = load_model(first)
    capsys.readouterr()
    assert run(*more) == 130
    said = "is as it was; --resume goes on" if in_place else "model so far with 0 new labels"
    assert said in capsys.readouterr().err
    assert_same_arrays(load_model(first), before)
    assert find_checkpoints(target)
    monkeypatch.undo()
    assert run(*more, "--resume") == 0
    assert "resumed after" in capsys.readouterr().err
    assert not find_checkpoints(target)
    assert_same_arrays(load_model(files / "at once"), load_model(target))
    assert [record["epoch"] for record in records(target)] == ([1, 2, 3] if in_place else [2, 3])
    if not in_place:
        assert run(*more, "--resume") == 0
        assert "there is nothing to do" in capsys.readouterr().err


def test_a_dry_run_prints_the_memory_and_trains_nothing(files, capsys):
    assert train(files, "dry", "--dry-run") == 0
    out, err = capsys.readouterr()
    assert err == ""
    for word in ("data", "parameters", "optimizer", "tables", "working", "total"):
        assert word in out
    assert not (files / "dry").exists()


def test_a_dry_run_of_more_training_leaves_the_model_alone(files, capsys):
    before = {path.name: path.read_bytes() for path in (files / "model").iterdir()}
    more = ("train", files / "train.txt", "--continue", files / "model", "--dry-run")
    assert run(*more, "--model", files / "model") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "total" in out
    assert before == {path.name: path.read_bytes() for path in (files / "model").iterdir()}
    assert run(*more, "--model", files / "dry", "--lr", 0.1) == 1
    assert_one_line(capsys, "--continue keeps the settings of the model; leave out lr")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--checkpoint-every", "often"), "'often', give a time such as 60s"),
        (("--checkpoint-every", "never", "--resume"), "--resume needs checkpoints"),
    ],
)
def test_checkpoints_that_cannot_be(files, capsys, options, message):
    assert train(files, "nothing", *options) == 1
    assert_one_line(capsys, message)


# evaluate


@pytest.mark.parametrize("exact", [False, True])
def test_evaluate_prints_one_object(files, capsys, exact):
    options = ["--exact"] if exact else []
    assert run("evaluate", files / "model", files / "test.txt", "--json", *options) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.count("\n") == 1
    found = json.loads(out)
    assert set(found) == SCORES | MEASURES | {f"ndcg@{k}" for k in (1, 3, 5)}
    assert found["n_examples"] == 50
    assert found["ms_per_example"] == pytest.approx(1000 * found["seconds"] / 50)
    assert 0 < found["recall@5"] <= 1
    assert found["active_share"] == 1 if exact else 0 < found["active_share"] < 1


def test_evaluate_agrees_with_predict(files, capsys):
    data, folder = files / "test.txt", files / "model"
    assert run("evaluate", folder, data, "--json", "--exact") == 0
    found = json.loads(capsys.readouterr().out)
    assert run("predict", folder, data, "--exact") == 0
    lines = capsys.readouterr().out.splitlines()
    true = [
        set(map(int, line.split(" ")[0].split(","))) for line in data.read_text().splitlines()[1:]
    ]
    top = [[int(pair.split(":")[0]) for pair in line.split()] for line in lines]
    for k in (1, 3, 5):
        hits = sum(len(set(row[:k]) & labels) for row, labels in zip(top, true, strict=True))
        assert found[f"p@{k}"] == pytest.approx(100 * hits / (k * 50))


def test_evaluate_prints_a_table(files, capsys):
    assert run("evaluate", files / "model", files / "test.txt") == 0
    out = capsys.readouterr().out
    for word in ("PSP", "nDCG", "@5", "recall@5 of the index", "50 examples"):
        assert word in out


def test_a_recall_may_be_asked_for(files, capsys):
    folder, data = files / "model", files / "test.txt"
    assert run("evaluate", folder, data, "--json", "--recall", 0.9) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["recall@5"] > 0.8
    assert "times as far as the settings say" in err
    assert run("predict", folder, data, "--recall", 0.9) == 0
    assert capsys.readouterr().out.count("\n") == 50
    assert run("inspect", folder) == 0
    assert "times as far: " in capsys.readouterr().out
    assert run("predict", folder, data, "--recall", 2) == 1
    assert_one_line(capsys, "recall is 2.0, ask for a share")
    assert run("evaluate", folder, data, "--recall", 0.9, "--exact") == 1
    assert_one_line(capsys, "--exact finds everything; leave out --recall")


# predict


def test_predict_prints_the_best_labels_of_every_example(files, capsys):
    data = load_dataset(files / "test.txt")
    assert run("predict", files / "model", files / "test.txt", "-k", 3, "--exact") == 0
    out, err = capsys.readouterr()
    assert err == ""
    top = load_model(files / "model").predict_topk(data.X, 3, exact=True)
    lines = out.splitlines()
    assert len(lines) == 50
    for line, labels, scores in zip(lines, top.labels, top.scores, strict=True):
        pairs = [pair.split(":") for pair in line.split(" ")]
        assert [int(label) for label, _ in pairs] == labels.tolist()
        np.testing.assert_allclose([float(score) for _, score in pairs], scores, rtol=1e-5)


def test_predict_writes_the_same_to_a_file(files, capsys, tmp_path):
    output = tmp_path / "out.txt"
    output.write_text("old")
    words = ["predict", files / "model", files / "test.txt"]
    assert run(*words) == 0
    expected = capsys.readouterr().out
    assert run(*words, "--output", output) == 0
    assert capsys.readouterr() == ("", "")
    assert output.read_text() == expected


def test_predict_asks_for_no_more_labels_than_there_are(files, capsys):
    assert run("predict", files / "model", files / "test.txt", "-k", 99, "--exact") == 0
    assert {len(line.split()) for line in capsys.readouterr().out.splitlines()} == {N_LABELS}


def test_label_names_are_printed_and_matched(files, capsys, tmp_path):
    names = [f"50% of {i}" for i in range(N_LABELS)]
    shifted = Dataset(*problem(50, 1)[:2], [f"50% of {i}" for i in range(1, N_LABELS + 1)])
    save_dataset(problem(200, 0)._replace(label_names=names), tmp_path / "train.npz")
    save_dataset(problem(50, 1)._replace(label_names=names), tmp_path / "test.npz")
    save_dataset(shifted, tmp_path / "shifted.npz")
    words = ["train", tmp_path / "train.npz", "--model", tmp_path / "m"]
    assert run(*words, "--config", files / "fast.toml") == 0
    capsys.readouterr()
    assert run("predict", tmp_path / "m", tmp_path / "test.npz", "-k", 1) == 0
    first = capsys.readouterr().out.split("\n")[0]
    assert first.startswith("50%25%20of%20")
    found = {}
    for name in ("test", "shifted"):
        assert run("evaluate", tmp_path / "m", tmp_path / f"{name}.npz", "--json") == 0
        out, err = capsys.readouterr()
        found[name] = json.loads(out)["p@1"]
        assert ("1 labels are unknown to the model" in err) == (name == "shifted")
    assert found["test"] > 80
    assert found["shifted"] < 20  # every name belongs to another feature now


# inspect, convert


def test_inspect_shows_layers_and_tables(files, capsys):
    assert run("inspect", files / "model") == 0
    out = capsys.readouterr().out
    parameters = (N_FEATURES + 1) * 16
    for word in ("hidden 1", "output", "hashed", f"{parameters:,}", "MiB", "largest buckets",
                 "buckets with neurons", "recall@5 of the index", "200 examples"):  # fmt: skip
        assert word in out


@pytest.mark.parametrize("name", ["a.svm", "a.txt.gz", "a.npz", "a.parquet"])
def test_convert_keeps_the_data(files, tmp_path, name):
    assert run("convert", files / "train.txt", tmp_path / name) == 0
    before, after = load_dataset(files / "train.txt"), load_dataset(tmp_path / name)
    assert (before.X != after.X).nnz == 0
    assert (before.Y != after.Y).nnz == 0


# mistakes


def test_other_widths_are_refused_with_both_numbers(files, capsys, tmp_path):
    for width in (N_FEATURES - 1, N_FEATURES + 3):
        data = Dataset(csr_matrix((2, width), dtype=np.float32), csr_matrix((2, N_LABELS)))
        save_dataset(data, tmp_path / "x.txt")
        for command in ("evaluate", "predict"):
            assert run(command, files / "model", tmp_path / "x.txt") == 1
            assert_one_line(capsys, f"{width} features", N_FEATURES)
    data = Dataset(csr_matrix((2, N_FEATURES), dtype=np.float32), csr_matrix((2, N_LABELS + 1)))
    save_dataset(data, tmp_path / "x.txt")
    assert run("predict", files / "model", tmp_path / "x.txt") == 0
    capsys.readouterr()
    assert run("evaluate", files / "model", tmp_path / "x.txt") == 1
    assert_one_line(capsys, f"{N_LABELS + 1} labels", N_LABELS)


def test_svmlight_takes_the_widths_of_the_model(files, capsys, tmp_path):
    (tmp_path / "x.svm").write_text("0 1:1\n1 2:1\n")
    for command in ("evaluate", "predict"):
        assert run(command, files / "model", tmp_path / "x.svm") == 0
    capsys.readouterr()
    (tmp_path / "x.svm").write_text(f"0 1:1\n1 {N_FEATURES + 1}:1\n")
    assert run("predict", files / "model", tmp_path / "x.svm") == 1
    assert_one_line(capsys, "x.svm:2", f"feature {N_FEATURES + 1}")


MISTAKES = {
    "no such data": ("train {}/none.txt --model {}/x", "none.txt"),
    "data is a folder": ("train {}/model --model {}/x", "model"),
    "unknown extension": ("train {}/fast.toml --model {}/x", ".toml"),
    "model is a file": ("train {}/train.txt --model {}/test.txt", "test.txt"),
    "hidden": ("train {}/train.txt --model {}/x --hidden 8,wide", "8,wide"),
    "no epochs": ("train {}/train.txt --model {}/x --epochs 0", "epochs is 0"),
    "no time": ("train {}/train.txt --model {}/x --time-limit 0", "0"),
    "no config": ("train {}/train.txt --model {}/x --config {}/none.toml", "none.toml"),
    "no valid": ("train {}/train.txt --model {}/x --valid {}/none.txt", "none.txt"),
    "config is data": ("train {}/train.txt --model {}/x --config {}/train.txt", "train.txt"),
    "no model": ("evaluate {}/none {}/test.txt", "none"),
    "not a model": ("inspect {}", "config.json"),
    "no labels wanted": ("predict {}/model {}/test.txt -k 0", "-k is 0"),
    "no output folder": ("predict {}/model {}/test.txt --output {}/no/out.txt", "out.txt"),
    "convert nothing": ("convert {}/none.txt {}/x.npz", "none.txt"),
    "convert to nothing": ("convert {}/train.txt {}/x.doc", ".doc"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_1(files, capsys, mistake):
    words, part = MISTAKES[mistake]
    assert main([word.replace("{}", str(files)) for word in words.split()]) == 1
    assert_one_line(capsys, part)


@pytest.mark.parametrize(
    "words", ["train", "train data.txt", "train data.txt --model m --epochs many", "evaluate a",
              "predict a b --no-such-option", "no-such-command", ""],
)  # fmt: skip
def test_wrong_usage_is_exit_code_2(capsys, words):
    assert main(words.split()) == 2
    out, err = capsys.readouterr()
    assert "Usage: slide" in out + err
    assert "Traceback" not in out + err


def test_full_disk_is_one_line(files, capsys, monkeypatch):
    def save(model, folder):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))

    monkeypatch.setattr("slidelearn.model_file.save_model", save)
    assert train(files, "full", "--epochs", 1, "--quiet") == 1
    assert_one_line(capsys, "No space left on device", files / "full")


def test_no_memory_is_one_line(files, capsys, monkeypatch):
    def load(folder):
        raise MemoryError("Unable to allocate 1 TiB")

    monkeypatch.setattr("slidelearn.model_file.load_model", load)
    assert run("inspect", files / "model") == 1
    assert_one_line(capsys, "out of memory", "1 TiB")


def test_help_answers_without_the_engine():
    code = (
        "import sys; from slidelearn.cli import main; code = main(['train', '--help']); "
        "sys.exit(code or 'numba' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    for option in ("--model", "--valid", "--hidden", "--epochs", "--batch-size", "--lr", "--seed",
                   "--threads", "--time-limit", "--config"):  # fmt: skip
        assert option in done.stdout
