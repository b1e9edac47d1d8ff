"""The wide path for labels that all examples share, against plain NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.sparse import csr_matrix

import naive
from batches import random_features, random_labels
from slidelearn.wide import make_wide
from slidelearn.wide_block import (
    _add_densely,
    _add_one_by_one,
    add_block_scores,
    add_met_scores,
    block_size,
    columns_of,
    meet_block,
    move_met,
)

N, D, N_LABELS = 20, 9, 7


def make_problem(n_labels=N_LABELS, seed=0):
    """Examples, their wide path, and its weights densely; label 3 has no example."""
    X, Y = random_features(N, D, seed), random_labels(N, n_labels, seed)
    Y.data[Y.indices == 3] = 0
    Y.eliminate_zeros()
    wide, _ = make_wide(X, Y, 10.0)
    return X, Y, wide


def dense_weights(wide):
    n_labels = len(wide.indptr) - 1
    return csr_matrix((wide.weights, wide.features, wide.indptr), (n_labels, D)).toarray()


@pytest.mark.nojit
def test_columns_hold_the_entries_of_the_batch():
    X = random_features(N, D, 3)
    columns, dense = columns_of(X), np.zeros((N, D), np.float32)
    for feature, number in enumerate(columns.numbers):
        assert (number < 0) == (X[:, [feature]].nnz == 0)
        own = slice(columns.indptr[number], columns.indptr[number + 1]) if number >= 0 else slice(0)
        assert np.all(np.diff(columns.examples[own]) > 0)
        dense[columns.examples[own], feature] = columns.values[own]
    assert np.array_equal(dense, X.toarray())


@pytest.mark.nojit
@pytest.mark.parametrize(("first", "last"), [(0, N_LABELS), (2, 5), (3, 4), (4, 4)])
def test_scores_are_added(first, last):
    X, _, wide = make_problem()
    out = np.ones((N, N_LABELS + 1), np.float32)  # whose columns are not one block of memory
    columns, labels = columns_of(X), np.arange(first, last)
    add_met_scores(columns, wide, meet_block(columns, wide, labels), out[:, first:last])
    ref = np.ones(out.shape)
    ref[:, first:last] += X.toarray() @ dense_weights(wide)[first:last].T
    assert_allclose(out, ref, rtol=1e-5, atol=1e-5)


def test_more_labels_than_a_block():
    X, _, wide = make_problem(n_labels=133)
    columns, out = columns_of(X), np.zeros((N, 133), np.float32)
    assert block_size(columns) == 64
    add_block_scores(columns, wide, np.arange(133), out)
    assert_allclose(out, X.toarray() @ dense_weights(wide).T, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("n_features", "size"), [(0, 64), (2**14, 64), (2**16, 16), (2**21, 1)])
def test_blocks_are_small_where_a_batch_has_many_features(n_features, size):
    X = csr_matrix(np.ones((1, n_features), np.float32))
    assert block_size(columns_of(X)) == size


@pytest.mark.nojit
def test_update():
    X, Y, wide = make_problem()
    columns, before, labels = columns_of(X), dense_weights(wide), np.array([1, 4, 6])
    present = (Y.T.astype(int) @ (X != 0).astype(int)).toarray() > 0
    delta = np.zeros((N, N_LABELS))
    delta[:, labels] = np.random.default_rng(2).standard_normal((N, 3))
    deltas = delta.astype(np.float32)[:, labels]
    move_met(columns, wide, meet_block(columns, wide, labels), deltas, 0.1)
    ref = naive.move_wide(before, present, X.toarray(), delta, [], labels, 0.1)
    assert_allclose(dense_weights(wide), ref, rtol=1e-5, atol=1e-5)
    assert np.abs(ref - before).max() > 0.05


@pytest.mark.nojit
def test_scores_are_the_same_to_the_bit_however_they_are_added():
    X, _, wide = make_problem(seed=5)
    columns, labels = columns_of(X), np.arange(N_LABELS)
    met, (out, other) = meet_block(columns, wide, labels), np.ones((2, N, N_LABELS), np.float32)
    _add_densely(columns, wide, met, out)
    _add_one_by_one(columns, wide, met, other)
    assert np.array_equal(out, other)
    alone = np.ones((1, N_LABELS), np.float32)  # nor do other examples matter
    add_block_scores(columns_of(X[7]), wide, labels, alone)
    assert np.array_equal(alone[0], out[7])


@given(st.integers(0, 2**16), st.integers(1, N_LABELS - 1))
@settings(max_examples=30, deadline=None)
def test_blocks_do_not_matter(seed, cut):
    X, _, wide = make_problem(seed=seed)
    columns, whole = columns_of(X), np.zeros((N, N_LABELS), np.float32)
    parts, deltas = whole.copy(), np.random.default_rng(seed).standard_normal(whole.shape)
    other = wide._replace(weights=wide.weights.copy(), squares=wide.squares.copy())
    labels, deltas = np.arange(N_LABELS), deltas.astype(np.float32)
    met = meet_block(columns, wide, labels)
    add_met_scores(columns, wide, met, whole)
    move_met(columns, wide, met, deltas, 0.1)
    for own in (slice(0, cut), slice(cut, None)):
        met = meet_block(columns, other, labels[own])
        add_met_scores(columns, other, met, parts[:, own])
        move_met(columns, other, met, deltas[:, own], 0.1)
    assert np.array_equal(whole, parts)
    assert np.array_equal(wide.weights, other.weights)


def test_examples_without_features_and_labels_without_examples():
    X = csr_matrix((3, D), dtype=np.float32)
    wide, _ = make_wide(X, random_labels(3, N_LABELS), 10.0)
    columns, out = columns_of(X), np.ones((3, N_LABELS), np.float32)
    assert columns.indptr.tolist() == [0]
    add_block_scores(columns, wide, np.arange(N_LABELS), out)
    assert np.all(out == 1)
