"""CSR matrices against SciPy, and the whole way of data whose matrices SciPy would widen."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy.sparse import csr_matrix, vstack

from batches import random_features, random_labels
from models import assert_same_arrays
from problems import clusters
from slidelearn import csr
from slidelearn.csr import (
    copy_csr,
    count_ids,
    find_disorder,
    is_canonical,
    keep_entries,
    make_csr,
    slice_rows,
    sort_rows,
    stack_rows,
    take_rows,
)
from slidelearn.datasets import load_dataset, save_dataset
from slidelearn.datasets.dataset import Dataset
from slidelearn.fitting import continue_model, fit_model
from slidelearn.layers import examples_of

N, D = 30, 12
rows_of_columns = st.lists(st.lists(st.integers(0, 5), max_size=4), max_size=6)


@pytest.fixture(params=[False, True], ids=["ordinary", "large"])
def X(request, monkeypatch):
    """A matrix as it is, or as it would be with more than 2^31 - 1 entries."""
    if request.param:
        monkeypatch.setattr(csr, "_MOST", -1)
    plain = random_features(N, D)
    matrix = make_csr(plain.data, plain.indices, plain.indptr, plain.shape)
    assert matrix.indptr.dtype == (np.int64 if request.param else np.int32)
    return matrix


def assert_same(got, expected):
    assert got.shape == expected.shape
    assert got.indices.dtype == np.int32
    assert got.dtype == expected.dtype
    for part in ("data", "indices", "indptr"):
        assert_array_equal(getattr(got, part), getattr(expected, part))


@pytest.mark.nojit
def test_rows(X):
    expected = random_features(N, D)
    for start, end in ((0, N), (3, 9), (7, 7), (20, N + 5), (0, 0)):
        part = slice_rows(X, start, end)
        assert_same(part, expected[start:end])
        assert not part.nnz or np.shares_memory(part.data, X.data)
    for rows in ([], [4], [0, 29, 3, 3, 1]):
        chosen = np.array(rows, np.int64)
        assert_same(take_rows(X, chosen), expected[chosen])
    copied = copy_csr(X)
    assert_same(copied, expected)
    assert not np.shares_memory(copied.data, X.data)


@pytest.mark.nojit
def test_entries(X):
    expected = random_features(N, D)
    assert_same(
        stack_rows([X, slice_rows(X, 3, 5), X]), vstack([expected, expected[3:5], expected])
    )
    marks = np.random.default_rng(0).random(X.nnz) < 0.5
    dropped = expected.copy()
    dropped.data[~marks] = 0
    dropped.eliminate_zeros()
    assert_same(keep_entries(X, marks), dropped)
    assert_array_equal(count_ids(X.indices, D + 2), [*np.bincount(expected.indices), 0, 0])


@pytest.mark.nojit
def test_examples_of_labels(X):
    Y = random_labels(N, D)
    turned = Y.tocsc()
    examples = examples_of(make_csr(Y.data, Y.indices, Y.indptr, Y.shape))
    assert_array_equal(examples.indptr, turned.indptr)
    assert_array_equal(examples.neurons, turned.indices)


@pytest.mark.nojit
@given(rows_of_columns, st.sampled_from([np.int32, np.int64]))
@settings(deadline=None)
def test_order(rows, dtype):
    indptr = np.cumsum([0, *map(len, rows)]).astype(dtype)
    indices = np.array([column for row in rows for column in row], np.int32)
    falls = [
        start + j
        for start, row in zip(indptr, rows, strict=False)
        for j in range(1, len(row))
        if row[j] <= row[j - 1]
    ]
    assert find_disorder(indptr, indices) == (falls[0] if falls else None)
    data = np.arange(len(indices))
    ordered = [
        np.argsort(row, kind="stable") + start for start, row in zip(indptr, rows, strict=False)
    ]
    expected = np.concatenate([np.empty(0, np.int64), *ordered]).astype(np.int64)
    before = indices.copy()
    sort_rows(indptr, indices, data)
    assert_array_equal(data, expected)
    assert_array_equal(indices, before[expected])


@pytest.fixture
def large(monkeypatch):
    """Every matrix is like one of more than 2^31 - 1 entries, and SciPy may see pieces only."""
    monkeypatch.setattr(csr, "_MOST", -1)

    def watched(name):
        real = getattr(csr_matrix, name)

        def method(self, *arguments, **options):
            arrays = arguments[0] if name == "__init__" else None
            given = isinstance(arrays, tuple) and len(arrays) == 3
            n = len(arrays[2]) - 1 if given else 0 if name == "__init__" else self.shape[0]
            assert n <= 256, f"SciPy's {name} got {n} rows"
            return real(self, *arguments, **options)

        monkeypatch.setattr(csr_matrix, name, method)

    for name in (
        "__init__", "__getitem__", "tocsc", "tocoo", "toarray", "copy", "astype", "sort_indices",
        "sum_duplicates", "eliminate_zeros",
    ):  # fmt: skip
        watched(name)


def trained(folder, name, copy):
    """A model of a file, trained further on it and more, and what it predicts."""
    data = load_dataset(folder / name)
    more = data._replace(Y=make_csr(data.Y.data, data.Y.indices, data.Y.indptr, (600, 42)))
    overrides = {
        "hidden": [16], "tail": 10, "epochs": 1, "batch_size": 32, "calibration": 300, "seed": 1,
        "input_dropout": 0.1,
    }  # fmt: skip
    model = fit_model(data, overrides, valid=load_dataset(folder / name), copy=copy)
    model = continue_model(model, more, epochs=1)
    X = load_dataset(folder / name).X
    assert (X.indptr.dtype, X.indices.dtype) == (np.int64 if csr._MOST < 0 else np.int32, np.int32)
    return model, [model.predict_topk(X, 3, exact=exact) for exact in (True, False)]


@pytest.mark.parametrize("name", ["data.txt", "data.parquet", "data.npz"])
@pytest.mark.parametrize("copy", [True, False])
def test_large_matrices_give_the_same_bits(tmp_path, request, name, copy):
    X, Y, _ = clusters(600)
    save_dataset(Dataset(X, Y), tmp_path / name)
    model, answers = trained(tmp_path, name, copy)
    request.getfixturevalue("large")
    again, others = trained(tmp_path, name, copy)
    assert_same_arrays(model, again)
    for one, other in zip(answers, others, strict=True):
        assert_array_equal(one.labels, other.labels)
        assert_array_equal(one.scores, other.scores)
    save_dataset(load_dataset(tmp_path / name), tmp_path / f"again-{name}")


@pytest.mark.nojit
@given(
    st.lists(st.integers(-1, 5), max_size=5),
    st.lists(st.integers(-1, 5), max_size=5),
    st.lists(st.sampled_from([1.0, 0.0, np.nan, np.inf]), max_size=5),
    st.sampled_from([0, 3, 6]),
)
@settings(deadline=None, max_examples=300)
def test_canonical_is_what_scipy_and_numpy_say(starts, columns, values, width):
    indptr, indices = np.array([0, *starts], np.int32), np.array(columns, np.int32)
    data = np.array(values, np.float32)
    try:
        matrix = csr_matrix((data, indices, indptr), shape=(len(starts), width))
        matrix.check_format(full_check=True)
        sound = indptr[-1] == len(indices) == len(data) and matrix.has_canonical_format
    except ValueError:
        sound = False
    expected = sound and bool(np.isfinite(data).all())
    assert is_canonical(indptr, indices, data, width) == expected


@pytest.mark.nojit
@given(rows_of_columns)
@settings(deadline=None)
def test_rows_that_ascend_are_canonical(rows):
    indptr = np.concatenate(([0], np.cumsum([len(row) for row in rows]))).astype(np.int32)
    indices = np.array([column for row in rows for column in row], np.int32)
    expected = all(row == sorted(set(row)) for row in rows)
    assert is_canonical(indptr, indices, np.ones(len(indices), np.float32), 6) == expected
