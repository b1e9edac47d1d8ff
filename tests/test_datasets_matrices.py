"""Canonical matrices from whatever a user passes, without touching what was passed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

from slidelearn.datasets import as_csr_features, as_csr_labels
from slidelearn.errors import DataError

FORMATS = ["csr", "csc", "coo", "bsr", "lil", "dok", "dia"]


def dense_example(dtype):
    rng = np.random.default_rng(5)
    dense = rng.integers(0, 2, (6, 8)) * rng.integers(1, 90, (6, 8))
    dense[2] = 0
    return dense.astype(dtype)


def assert_canonical(got, dtype):
    assert got.dtype == dtype
    assert isinstance(got, sparse.csr_matrix)
    assert got.indices.dtype == np.int32
    fresh = sparse.csr_matrix((got.data, got.indices, got.indptr), shape=got.shape)
    assert fresh.has_canonical_format


@pytest.mark.parametrize("dtype", ["f4", "f8", ">f4", ">f8", "f2", "i1", "u8", ">i4", "?", "g"])
def test_dense_of_any_dtype(dtype):
    dense = dense_example(dtype)
    for X in (dense, np.asfortranarray(dense), np.repeat(dense, 2, axis=1)[:, ::2]):
        got = as_csr_features(X)
        assert_canonical(got, np.float32)
        np.testing.assert_array_equal(got.toarray(), dense.astype(np.float32))
    np.testing.assert_array_equal(as_csr_features(dense.tolist()).toarray(), dense.astype("f4"))


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csr_array])
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("dtype", ["f4", ">f8", "i8", "?"])
def test_sparse_of_any_format(kind, layout, dtype):
    dense = dense_example(dtype)
    native = dense.astype(dense.dtype.newbyteorder("="))
    X = kind(native).asformat(layout)
    if layout in ("csr", "csc", "coo", "bsr", "dia"):
        X.data = X.data.astype(dtype)
    got = as_csr_features(X)
    assert_canonical(got, np.float32)
    np.testing.assert_array_equal(got.toarray(), dense.astype(np.float32))


def unsorted_with_duplicates(index_dtype, dtype=np.float64):
    indices = np.array([3, 1, 3, 0], index_dtype)
    indptr = np.array([0, 3, 3, 4], index_dtype)
    X = sparse.csr_matrix((3, 5), dtype=dtype)
    X.data, X.indices, X.indptr = np.array([100, 7, 100, 2], dtype), indices, indptr
    return X


@pytest.mark.parametrize("index_dtype", [np.int32, np.int64])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int8])
def test_unsorted_duplicates_are_summed_in_a_copy(index_dtype, dtype):
    X = unsorted_with_duplicates(index_dtype, dtype)
    before = [X.data.copy(), X.indices.copy(), X.indptr.copy()]
    got = as_csr_features(X)
    assert_canonical(got, np.float32)
    np.testing.assert_array_equal(got.toarray(), [[0, 7, 0, 200, 0], [0] * 5, [2, 0, 0, 0, 0]])
    for part, old in zip((X.data, X.indices, X.indptr), before, strict=True):
        np.testing.assert_array_equal(part, old)
        assert part.dtype == old.dtype


def test_canonical_matrices_are_not_copied():
    X = sparse.csr_matrix(dense_example(np.float32))
    Y = sparse.csr_array((dense_example(np.uint8) > 0).astype(np.uint8))
    for got, given_matrix in ((as_csr_features(X), X), (as_csr_labels(Y), Y)):
        assert np.shares_memory(got.data, given_matrix.data)
        assert np.shares_memory(got.indices, given_matrix.indices)


def test_stored_zeros_are_features_but_not_labels():
    stored = sparse.csr_matrix((np.array([0.0, 1.0]), [0, 2], [0, 1, 2]), shape=(2, 3))
    assert as_csr_features(stored).nnz == 2
    labels = as_csr_labels(stored)
    assert labels.indices.tolist() == [2]
    assert stored.nnz == 2
    assert_canonical(labels, np.uint8)


@settings(max_examples=50, deadline=None)
@given(
    hnp.arrays(np.float64, st.tuples(st.integers(0, 5), st.integers(1, 6)), elements=st.floats())
)
def test_bad_values_are_named(dense):
    bad = np.argwhere(~(np.abs(dense) < 3.4028235677973366e38))
    for X in (dense, sparse.csr_matrix(dense)):
        if bad.size:
            row, column = bad[0]
            with pytest.raises(
                DataError, match=f"X row {row}, column {column}: value .*(fin|over)"
            ):
                as_csr_features(X)
        else:
            np.testing.assert_array_equal(as_csr_features(X).toarray(), dense.astype(np.float32))


@pytest.mark.parametrize(
    ("X", "fragment"),
    [
        ([1.0, 2.0], "1 dimension"),
        (np.zeros((2, 2, 2)), "3 dimension"),
        (sparse.coo_array(np.ones(3)), "1 dimension"),
        ([[1.0], [1.0, 2.0]], "ragged"),
        ([["a"]], "dtype <U1; expected real numbers"),
        ([[1j]], "complex128"),
        (sparse.csr_matrix([[1j]]), "complex128"),
        (None, "0 dimension"),
    ],
)
def test_what_is_no_matrix_of_numbers(X, fragment):
    for convert in (as_csr_features, as_csr_labels):
        with pytest.raises(DataError, match=fragment):
            convert(X)


def test_broken_sparse_matrices_are_refused():
    X = sparse.csr_matrix(np.eye(3))
    X.indices = np.array([0, 1, 7], np.int32)
    with pytest.raises(DataError, match="X row 2: id 7 is out of bounds"):
        as_csr_features(X)
    columns = sparse.csc_matrix(np.eye(3))
    columns.indices = X.indices
    with pytest.raises(DataError, match="malformed sparse matrix"):
        as_csr_features(columns)


def test_widths_are_checked_and_named():
    with pytest.raises(DataError, match="queries has 3 features; expected 4"):
        as_csr_features(np.eye(3), n_features=4, name="queries")
    with pytest.raises(DataError, match="Y has 3 labels; expected 2"):
        as_csr_labels(np.eye(3), n_labels=2)


@pytest.mark.parametrize("value", [2, -1, 0.5, np.nan, np.inf])
def test_labels_are_zero_or_one(value):
    dense = np.eye(3)
    dense[1, 2] = value
    for Y in (dense, sparse.csc_matrix(dense)):
        with pytest.raises(DataError, match=f"Y row 1, column 2 is {value}"):
            as_csr_labels(Y)


def test_label_stored_twice_is_refused():
    twice = sparse.csr_matrix((np.ones(2), [1, 1], [0, 2]), shape=(1, 3))
    with pytest.raises(DataError, match=r"column 1 is 2\.0"):
        as_csr_labels(twice)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_empty_shapes(shape):
    assert as_csr_features(np.zeros(shape)).shape == shape
    assert as_csr_labels(sparse.coo_matrix(shape)).shape == shape
