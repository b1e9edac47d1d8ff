"""Model folders: what was saved comes back, at every moment, and nothing else is believed."""

import errno
import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, load_file, save
from scipy.sparse import csr_matrix

from mappings import is_read_by_page, is_read_in_large_pages
from models import assert_same_arrays
from problems import clusters
from slidelearn import array_file, model_file
from slidelearn.array_file import encode_arrays
from slidelearn.datasets import Dataset
from slidelearn.errors import ModelError
from slidelearn.fitting import continue_model, fit_model
from slidelearn.model_file import load_model, save_model
from slidelearn.network_arrays import name_arrays
from slidelearn.ranks import make_ranks
from slidelearn.training import Trainer
from slidelearn.workers import Workers

QUICK = {"hidden": [24], "tail": 10, "wide": 10.0, "epochs": 1, "batch_size": 64, "threads": 1}
KINDS = {
    "default": {},
    "no tables": {"tail": 100, "wide": 0},
    "filed": {"tables": {"limit": 4}},
    "rows kept": {"wide": 0},
    "sketches kept": {"wide": 0, "hidden": [64]},
    "simhash": {
        "hidden_tables": {"family": "simhash", "k": 3, "l": 4},
        "optimizer": "adam",
        "tables": {"limit": 4},
    },
    "dwta": {"tables": {"family": "dwta", "k": 2, "l": 4, "limit": 4}, "optimizer": "sgd"},
    "minhash": {"hidden": [24, 16], "tables": {"family": "minhash", "k": 1, "l": 4, "limit": 4}},
}


def trained(changes=None, names=False):
    X, Y, _ = clusters()
    labels = [f"label\n{i} é" for i in range(Y.shape[1])] if names else None
    features = [f"word{i}" for i in range(X.shape[1])] if names else None
    return fit_model(Dataset(X, Y, labels, features), QUICK | (changes or {}))


@pytest.fixture(scope="module")
def small_model():
    return trained({"tables": {"limit": 4}})


def tamper(folder, change_arrays=None, change_header=None, change_bytes=None):
    """Change a folder by hand, with file names and checksums made to fit."""
    header = json.loads((folder / "config.json").read_text())
    entry = header["files"]["weights"]
    arrays = load_file(folder / entry["name"])
    if change_arrays is not None:
        change_arrays(arrays)
    data = save(arrays)
    if change_bytes is not None:
        data = change_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    name = f"weights-{digest[:16]}.safetensors"
    (folder / name).write_bytes(data)
    header["files"]["weights"] = {"name": name, "bytes": len(data), "sha256": digest}
    header.pop("checksum", None)
    if change_header is not None:
        change_header(header)
    (folder / "config.json").write_text(json.dumps(header))


def test_rows_of_an_earlier_version_are_ranked_without_sketches(tmp_path):
    model, (X, _, _) = trained(KINDS["sketches kept"]), clusters()
    save_model(model, tmp_path)
    tamper(tmp_path, change_arrays=lambda arrays: arrays.pop("output.index.sketches"))
    earlier = load_model(tmp_path)
    assert earlier.network.indexes[-1].sketches is None
    found, before = (m.predict_topk(X, 1).labels for m in (model, earlier))
    assert (found == before).mean() > 0.99


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_saved_comes_back(kind, tmp_path):
    model = trained(KINDS[kind], names=True)
    save_model(model, tmp_path / "new" / "folder")
    loaded = load_model(tmp_path / "new" / "folder")
    for field in ("config", "label_names", "feature_names", "facts"):
        assert getattr(loaded, field) == getattr(model, field)
    ours, theirs = name_arrays(model), name_arrays(loaded)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_array_equal(theirs[name], array, err_msg=name, strict=True)
    for index, restored in zip(model.network.indexes, loaded.network.indexes, strict=True):
        assert (index is None) == (restored is None)
        assert getattr(index, "tables", None) is None or restored.tables is not None
        if index is not None and index.tables is not None:
            np.testing.assert_array_equal(restored.tables.neurons, index.tables.neurons)
            np.testing.assert_array_equal(restored.tables.offsets, index.tables.offsets)
            assert restored.seed == index.seed
    X, Y, _ = clusters(seed=1)
    for exact in (True, False):
        here, there = (m.predict_topk(X, 5, exact=exact) for m in (model, loaded))
        np.testing.assert_array_equal(here.labels, there.labels)
        np.testing.assert_array_equal(here.scores, there.scores)
    further = [continue_model(m, Dataset(X, Y), epochs=1) for m in (model, loaded)]
    weights = [m.network.output.weight for m in further]
    np.testing.assert_array_equal(*weights)


def test_arrays_are_encoded_as_safetensors_does():
    rng = np.random.default_rng(0)
    arrays = {
        "matrix": rng.random((3, 4)).astype(np.float32),
        "column-major": np.asfortranarray(rng.random((3, 4))),
        "scalar": np.array(3.5),
        "empty": np.zeros((0, 4), np.int32),
        "ids": np.arange(5),
    }
    restored = load(b"".join(encode_arrays(arrays)))
    assert restored.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(restored[name], array, strict=True)


def test_a_save_replaces_the_model_and_nothing_else(small_model, tmp_path):
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    (tmp_path / "weights-of-mine.safetensors").write_text("mine")
    save_model(trained(names=True), tmp_path)
    save_model(small_model, tmp_path)
    assert load_model(tmp_path).label_names is None
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 4
    assert {"config.json", "metrics.jsonl", "weights-of-mine.safetensors"} < set(names)


@pytest.mark.parametrize("fails", ["write_hashed", "atomic_write"])
def test_a_save_that_fails_leaves_the_old_model(small_model, tmp_path, monkeypatch, fails):
    save_model(small_model, tmp_path)
    before = load_model(tmp_path).network.output.weight
    """Whether it fails at the weights or at what names them."""

    def full_disk(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model_file, fails, full_disk)
    with pytest.raises(ModelError, match=r"cannot be written \(No space left on device\)"):
        save_model(trained({"seed": 1}), tmp_path)
    np.testing.assert_array_equal(load_model(tmp_path).network.output.weight, before)
    monkeypatch.undo()
    save_model(small_model, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2  # what the failed save left is gone


def test_folders_without_a_model(small_model, tmp_path):
    with pytest.raises(ModelError, match="there is no such folder"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(ModelError, match=r"config\.json: there is no such file"):
        load_model(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="is a file, not a model folder"):
        load_model(tmp_path / "file")
    with pytest.raises(ModelError, match="cannot be written"):
        save_model(small_model, tmp_path / "file")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json: not a JSON file"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h.update(format=2), "format 2 is newer than 1.*upgrade"),
        (lambda h: h.pop("format"), "states no format"),
        (lambda h: h.pop("config"), "config is missing"),
        (lambda h: h.update(n_labels=0), "n_labels 0, expected"),
        (lambda h: h.update(n_labels=41), "array output.weight is F32 40x25, .* F32 41x25"),
        (lambda h: h.update(n_features=10**9), "array hidden.0.weight is F32 61x24"),
        (lambda h: h["config"].update(lr="high"), "lr is 'high'"),
        (lambda h: h["config"].update(optimizer="adam"), "array hidden.0.squares is F32 61"),
        (lambda h: h["config"]["tables"].update(family="dwta"), "index.family.bins is missing"),
        (lambda h: h["config"]["tables"].update(l=2), "centroids is F32 1x"),
        (lambda h: h["files"].pop("weights"), "the weights file is None"),
        (lambda h: h["files"]["weights"].update(name="../x"), "file is '../x', no name of such"),
        (lambda h: h["files"]["weights"].update(bytes=3), "but config.json says 3"),
        (lambda h: h["files"]["weights"].update(sha256="0"), "checksum is not that in config.json"),
        (lambda h: h["files"].update(labels=h["files"]["weights"]), "the labels file is"),
    ],
)
def test_what_config_json_says_is_checked(small_model, tmp_path, change, message):
    save_model(small_model, tmp_path)
    tamper(tmp_path, change_header=change)
    with pytest.raises(ModelError, match=message):
        load_model(tmp_path)


def test_config_json_vouches_for_itself(small_model, tmp_path):
    save_model(small_model, tmp_path)
    path = tmp_path / "config.json"
    header = json.loads(path.read_text())
    path.write_text(json.dumps(header))  # laid out otherwise, with the same content
    load_model(tmp_path)
    header["config"]["vote"] += 1
    path.write_text(json.dumps(header))
    with pytest.raises(ModelError, match=r"config\.json: is not as it was saved"):
        load_model(tmp_path)
    header.pop("checksum")  # as the first versions wrote it
    path.write_text(json.dumps(header))
    assert load_model(tmp_path).config.vote == header["config"]["vote"]


def test_a_folder_without_derived_arrays_is_read_too(small_model, tmp_path):
    save_model(small_model, tmp_path)
    assert len(small_model.network.ranks.rows)
    derived = ("ranks.", "postings.", "memory.postings.", "cooccurrence.")

    def leave_out(arrays):
        for name in [name for name in arrays if name.startswith(derived)]:
            del arrays[name]

    tamper(tmp_path, change_arrays=leave_out)
    X, _, _ = clusters(seed=1)
    here, there = (m.predict_topk(X, 5) for m in (small_model, load_model(tmp_path)))
    np.testing.assert_array_equal(here.labels, there.labels)
    np.testing.assert_array_equal(here.scores, there.scores)


def test_a_head_with_all_long_lists_goes_without_their_ranks(tmp_path):
    model, (X, _, _) = trained({"hidden": [2400]}), clusters()
    wide, whole = model.network.wide, model.network
    ranks = make_ranks(wide.indptr, wide.features, whole.n_features)
    assert len(whole.head.labels) == len(ranks.words) > 0
    assert len(whole.ranks.rows) == len(whole.ranks.words) == 0
    save_model(model, tmp_path)
    assert_same_arrays(model, load_model(tmp_path))
    named = {f"ranks.{part}": array for part, array in ranks._asdict().items()}
    tamper(tmp_path, change_arrays=lambda arrays: arrays.update(named))  # as they were written once
    assert_same_arrays(model, load_model(tmp_path))
    trainer = Trainer(model.config, whole)
    with Workers(1) as workers:
        trainer.make_tables(X, workers)  # training asks for them
    for got, expected in zip(trainer.network.ranks, ranks, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_a_folder_that_is_trusted_is_read_without_a_look(small_model, tmp_path):
    save_model(trained(names=True), tmp_path)
    X, _, _ = clusters(seed=1)
    tops = [load_model(tmp_path, verify=verify).predict_topk(X, 5) for verify in (False, True)]
    for a, b in zip(*tops, strict=True):
        np.testing.assert_array_equal(a, b)
    tamper(tmp_path, change_header=lambda h: h["files"]["weights"].update(sha256="0"))
    load_model(tmp_path, verify=False)
    with pytest.raises(ModelError, match="checksum is not that"):
        load_model(tmp_path)
    tamper(tmp_path, change_arrays=lambda arrays: arrays.pop("mean"))
    with pytest.raises(ModelError, match="mean is missing"):
        load_model(tmp_path, verify=False)


def set_entry(name, place, value):
    def change(arrays):
        arrays[name].reshape(-1)[place] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            set_entry("output.index.codes", 3, 10**6),
            "code 1000000 of row 3, table 0 is not a bucket",
        ),
        (set_entry("output.index.codes", 3, -1), "code -1 of row 3"),
        (set_entry("wide.features", 0, -1), "wide.features has an id outside of 0 to 59"),
        (set_entry("wide.features", 5, 60), "wide.features has an id outside of 0 to 59"),
        (set_entry("wide.features", 0, 59), "wide.features does not ascend"),
        (set_entry("wide.indptr", 0, 1), "wide.indptr does not cut"),
        (set_entry("wide.indptr", 20, 10**9), "wide.indptr does not cut"),
        (set_entry("memory.features", 5, 60), "memory.features has an id outside of 0 to 59"),
        (set_entry("memory.indptr", 20, 10**9), "memory.indptr does not cut"),
        (set_entry("postings.labels", 3, 40), "postings.labels has an id outside of 0 to 39"),
        (set_entry("postings.indptr", 3, 10**9), "postings.indptr does not cut"),
        (set_entry("memory.postings.labels", 3, -1), "memory.postings.labels has an id outside"),
        (set_entry("ranks.rows", 3, 10**6), "ranks are not those of the wide path"),
        (set_entry("ranks.words", 1, 0), "ranks are not those of the wide path"),
        (set_entry("head.places", 1, 10**4), "weights of the head are not those of the wide path"),
        (set_entry("head.rows", 0, 10**4), "weights of the head are not those of the wide path"),
        (
            lambda arrays: arrays.update({"ranks.words": np.zeros((40, 3), np.uint64)}),
            "array ranks.words is U64 40x3",
        ),
        (set_entry("memory.labels", 3, 40), "memory.labels has an id outside of 0 to 39"),
        (lambda arrays: arrays.update({"memory.indptr": np.zeros(0, np.int64)}), "does not cut"),
        (
            lambda arrays: arrays.update({"memory.label_indptr": np.zeros(3, np.int64)}),
            "array memory.label_indptr is I64 3",
        ),
        (lambda arrays: arrays.pop("mean"), "the array mean is missing"),
        (lambda arrays: arrays.update(mean=np.zeros(24)), "array mean is F64 24"),
    ],
)
def test_the_content_of_arrays_is_checked(small_model, tmp_path, change, message):
    save_model(small_model, tmp_path)
    tamper(tmp_path, change_arrays=change)
    with pytest.raises(ModelError, match=message):
        load_model(tmp_path)


def test_the_company_of_labels_is_kept_and_checked(tmp_path):
    X, Y, _ = clusters()
    pairs = np.maximum(Y.toarray(), np.roll(Y.toarray(), 1, axis=1))  # two labels each
    model = fit_model(Dataset(X, csr_matrix(pairs)), QUICK | {"cooccurrence": 0.5})
    save_model(model, tmp_path)
    together, loaded = (m.network.memory.cooccurrence for m in (model, load_model(tmp_path)))
    assert len(together.shares) > 0
    assert loaded.strength == together.strength == 0.5
    np.testing.assert_array_equal(loaded.partners.neurons, together.partners.neurons)
    tamper(tmp_path, change_arrays=set_entry("cooccurrence.partners", 3, 40))
    with pytest.raises(ModelError, match=r"cooccurrence\.partners has an id outside"):
        load_model(tmp_path)


def test_the_arrays_of_a_hash_family_are_checked(tmp_path):
    save_model(trained(KINDS["dwta"]), tmp_path)
    tamper(tmp_path, change_arrays=set_entry("output.index.family.bins", 0, 8))
    with pytest.raises(ModelError, match=r"output\.index\.family do not fit each other"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    "change", [lambda b: b[:-1], lambda b: b[:9], lambda b: b"", lambda b: b + b"x"]
)
def test_a_file_that_is_no_safetensors(small_model, tmp_path, change):
    save_model(small_model, tmp_path)
    tamper(tmp_path, change_bytes=change)
    with pytest.raises(ModelError, match="not a whole safetensors file"):
        load_model(tmp_path)


def test_a_limit_that_the_file_does_not_fit_is_named(small_model, tmp_path, monkeypatch):
    def memmap(path, *args, **kwargs):
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    save_model(small_model, tmp_path)
    monkeypatch.setattr(np, "memmap", memmap)
    with pytest.raises(ModelError, match=r"cannot be mapped into memory .*`ulimit -d`"):
        load_model(tmp_path)


def test_a_damaged_or_missing_file(tmp_path):
    save_model(trained(names=True), tmp_path)
    labels = next(tmp_path.glob("labels-*.json"))
    content = bytearray(labels.read_bytes())
    content[5] ^= 1
    labels.write_bytes(content)
    with pytest.raises(ModelError, match=r"labels-.*the file is damaged"):
        load_model(tmp_path)
    labels.unlink()
    with pytest.raises(ModelError, match=r"labels-.*cannot be read"):
        load_model(tmp_path)


def test_names_must_fit(tmp_path):
    model = trained(names=True)
    model.label_names = model.label_names[1:]
    save_model(model, tmp_path)
    with pytest.raises(ModelError, match=r"labels-.* holds 39 names, but config.json says 40"):
        load_model(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux how it reads a mapping")
@pytest.mark.parametrize(("room", "by_page"), [(None, False), (2**40, False), (0, True)])
def test_a_model_beyond_the_memory_is_read_by_the_page(tmp_path, monkeypatch, room, by_page):
    save_model(trained(), tmp_path)
    monkeypatch.setattr(array_file, "available_memory", lambda: room)
    weight = load_model(tmp_path).network.output.weight
    assert is_read_by_page(weight) == by_page
    if Path("/sys/kernel/mm/transparent_hugepage").exists():
        assert is_read_in_large_pages(weight) != by_page
