"""Columns that grow in memory, or in a file if they are large; and training on what lies there."""

import errno
import os
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from mappings import is_read_by_page
from problems import clusters
from slidelearn.datasets import column as column_module
from slidelearn.datasets import load_dataset, save_dataset
from slidelearn.datasets.column import Column, is_mapped
from slidelearn.datasets.dataset import Dataset
from slidelearn.errors import DataError
from slidelearn.fitting import fit_model
from slidelearn.network_arrays import name_layers

posix = pytest.mark.skipif(sys.platform == "win32", reason="a disk is reserved otherwise there")


@pytest.fixture
def no_memory(monkeypatch):
    """Every column lives in a file."""
    monkeypatch.setattr(column_module, "available_memory", lambda: 0)


@given(
    st.lists(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=40), max_size=20),
    st.sampled_from([None, 0, 64, 10**6]),
)
def test_what_is_appended_is_there(blocks, limit):
    column, size = Column(np.int32, limit), 0
    for block in blocks:
        column.reserve(size + len(block))
        column.array[size : size + len(block)] = block
        size += len(block)
    array = column.finish(size)
    assert_array_equal(array, [item for block in blocks for item in block])
    assert is_mapped(array) == (size > 0 and limit is not None and limit < 4 * size)
    assert is_mapped(array[1:]) == is_mapped(array)


@pytest.mark.parametrize("name", ["data.txt", "data.txt.gz", "data.svm", "data.parquet"])
def test_files_are_read_alike(tmp_path, name, no_memory, monkeypatch):
    X, Y, _ = clusters()
    save_dataset(Dataset(X, Y), tmp_path / name)
    mapped = load_dataset(tmp_path / name)
    monkeypatch.setattr(column_module, "available_memory", lambda: None)
    held = load_dataset(tmp_path / name)
    for a, b in ((mapped.X, held.X), (mapped.Y, held.Y)):
        assert a.shape == b.shape
        for part in ("data", "indices", "indptr"):
            assert_array_equal(getattr(a, part), getattr(b, part))
    assert is_mapped(mapped.X.data)
    assert is_mapped(mapped.X.indices)
    assert not is_mapped(held.X.data)


@pytest.mark.parametrize("copy", [True, False])
def test_training_on_a_file_has_the_same_bits(tmp_path, no_memory, monkeypatch, copy):
    X, Y, _ = clusters()
    save_dataset(Dataset(X, Y), tmp_path / "data.txt")
    mapped = load_dataset(tmp_path / "data.txt")
    monkeypatch.setattr(column_module, "available_memory", lambda: None)
    held = load_dataset(tmp_path / "data.txt")
    settings = {"hidden": [16], "tail": 10, "epochs": 1, "batch_size": 32, "calibration": 50}
    models = [fit_model(data, settings, copy=copy) for data in (mapped, held)]
    ours, theirs = (name_layers(model.network) for model in models)
    for name, array in ours.items():
        assert_array_equal(array, theirs[name])
    assert is_mapped(models[0].network.memory.examples.weights) == (not copy)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux how it reads a mapping")
def test_the_system_reads_no_more_of_a_file_than_it_is_asked_for():
    column = Column(np.int32, limit=8)
    column.reserve(2**20)
    assert is_read_by_page(column.finish(2**20))


@posix
def test_a_full_disk_is_named(monkeypatch, no_memory, tmp_path):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    X, Y, _ = clusters()
    save_dataset(Dataset(X, Y), tmp_path / "data.txt")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(column_module.tempfile, "tempdir", None)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DataError, match=r"no room for the data.*No space left.*TMPDIR"):
        load_dataset(tmp_path / "data.txt")


@posix
def test_nothing_stays_behind(monkeypatch, no_memory, tmp_path):
    X, Y, _ = clusters()
    save_dataset(Dataset(X, Y), tmp_path / "data.txt")
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.setattr(column_module.tempfile, "tempdir", None)
    mapped = load_dataset(tmp_path / "data.txt")
    assert is_mapped(mapped.X.data)
    assert not list((tmp_path / "scratch").iterdir())
