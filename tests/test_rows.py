import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.sparse import csr_matrix

import naive
from batches import random_features
from slidelearn.rows import (
    BIAS_INPUT,
    add_scaled_row,
    concatenate_rows,
    dense_rows,
    dot_row,
    input_gradient,
    product,
    sparse_rows,
    weight_gradient,
)

N, D, M = 7, 5, 4


def make_rows(kind, n=N, seed=0):
    """The same inputs as Rows of one kind, and as an array."""
    X = random_features(n, D, seed)
    if kind == "sparse":
        return sparse_rows(X), X.toarray()
    return dense_rows(naive.with_bias(X.toarray()).astype(np.float32)), X.toarray()


def random_array(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


both = pytest.mark.parametrize("kind", ["sparse", "dense"])


def test_the_bias_input_is_that_of_the_oracle():
    assert np.float32(naive.BIAS_INPUT) == BIAS_INPUT


@both
def test_shape_and_views(kind):
    rows, X = make_rows(kind)
    assert (rows.n, rows.width) == (N, D)
    seen = rows.matrix()[:, :-1] if kind == "dense" else rows.csr().toarray()
    assert np.array_equal(seen, X)
    view = rows.matrix() if kind == "dense" else rows.csr().data
    assert np.shares_memory(view, rows.values)


@pytest.mark.nojit
@both
def test_product(kind):
    rows, X = make_rows(kind)
    weight = random_array(D + 1, M)
    assert_allclose(product(rows, weight), naive.with_bias(X) @ weight, rtol=1e-5, atol=1e-6)


@pytest.mark.nojit
@both
def test_dot_row_and_add_scaled_row(kind):
    rows, X = make_rows(kind)
    weight = random_array(D + 1)
    for i, x in enumerate(naive.with_bias(X)):
        assert_allclose(dot_row(rows, i, weight), x @ weight, rtol=1e-5, atol=1e-6)
        out = weight.copy()
        add_scaled_row(rows, i, np.float32(2.5), out)
        assert_allclose(out, weight + 2.5 * x, rtol=1e-5, atol=1e-6)


@pytest.mark.nojit
@both
def test_input_gradient_is_that_of_the_stored_inputs(kind):
    rows, X = make_rows(kind)
    weight, delta = random_array(D + 1, M), random_array(N, M, seed=2)
    ref = delta.astype(float) @ weight.T
    got = input_gradient(rows, weight, delta)
    stored = ref.ravel() if kind == "dense" else ref[:, :-1][X != 0]
    assert_allclose(got, stored, rtol=1e-5, atol=1e-6)


@both
def test_weight_gradient(kind):
    rows, X = make_rows(kind)
    delta = random_array(N, M, seed=2)
    ref = delta.T.astype(float) @ naive.with_bias(X)
    assert_allclose(weight_gradient(rows, delta), ref, rtol=1e-5, atol=1e-6)


@both
def test_products_of_no_rows(kind):
    rows, _ = make_rows(kind)
    none = (
        dense_rows(rows.matrix()[:0]) if kind == "dense" else sparse_rows(random_features(1, D)[:0])
    )
    assert product(none, random_array(D + 1, M)).shape == (0, M)
    assert not weight_gradient(none, np.empty((0, M), np.float32)).any()


@both
def test_concatenate(kind):
    parts, arrays = zip(*(make_rows(kind, n, seed=n) for n in (3, 1, 4)), strict=True)
    rows = concatenate_rows(list(parts))
    seen = rows.matrix()[:, :-1] if kind == "dense" else rows.csr().toarray()
    assert np.array_equal(seen, np.concatenate(arrays))
    assert rows.indptr.dtype == np.int64
    assert rows.indices.dtype == np.int32


def test_columns_above_16_bits_and_above_the_integers_that_float32_holds():
    columns = [65_535, 65_536, 65_537, 2**24, 2**24 + 1]
    width = columns[-1] + 1
    indptr = np.array([0, len(columns)])
    values = np.array([1, 2, 4, 8, 16], np.float32)
    rows = sparse_rows(csr_matrix((values, columns, indptr), shape=(1, width)))
    out = np.zeros(width + 1, np.float32)
    add_scaled_row(rows, 0, np.float32(1), out)
    assert out[columns].tolist() == values.tolist()
    assert np.count_nonzero(out) == len(columns) + 1
    assert_allclose(dot_row(rows, 0, out), values @ values + BIAS_INPUT**2)
