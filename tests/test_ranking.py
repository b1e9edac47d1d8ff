"""Ranking: searches that go as far as they must, by what buckets promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_matrix

import naive
from slidelearn.config import TableConfig
from slidelearn.index import Lookup, NeuronIndex
from slidelearn.rows import BIAS_INPUT, dense_rows, sparse_rows
from slidelearn.small_rows import small_rows
from slidelearn.tables.outlook import make_outline
from slidelearn.workers import Workers


def problem(n_neurons, d, n_buckets=6, seed=0, shift=0.0):
    """An index that keeps rows of neurons of many lengths, and queries with the constant."""
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((n_neurons, d + 1)).astype(np.float32)
    weight *= np.exp(0.5 * rng.standard_normal((n_neurons, 1))).astype(np.float32)
    weight[:, -1] += np.float32(shift)
    queries = np.full((5, d + 1), BIAS_INPUT, np.float32)
    queries[:, :d] = rng.standard_normal((5, d))
    index = NeuronIndex(TableConfig(n_buckets=n_buckets), seed=seed)
    with Workers(1) as workers:
        index.fit(weight, dense_rows(queries), workers)
    index.keep_rows(weight)
    return index, weight, queries


def look(index, queries, limit, reach):
    """The neurons of every query."""
    found = index.lookup(dense_rows(queries), Lookup(1, limit, 1, 1, 0, reach))
    return np.split(found.neurons, found.indptr[1:-1])


@pytest.mark.nojit
@given(
    st.integers(0, 99), st.integers(1, 60), st.integers(1, 70),
    st.sampled_from([0.0, 0.5, 2.0, 1000.0]), st.sampled_from([-50.0, 0.0, 50.0]),
)  # fmt: skip
@settings(deadline=None, max_examples=40)
def test_what_is_not_found_was_not_promised(seed, n_neurons, limit, reach, shift):
    index, weight, queries = problem(n_neurons, 5, min(n_neurons, 6), seed, shift)
    logits = queries @ small_rows(weight, "int8", neurons=True).floats(0, n_neurons).T
    vectors = index.centring.queries(queries[:, :-1]).astype(float)
    shifts = vectors[:, :-1] @ index.centring.mean_w + index.centring.mean_bias
    family, codes = index.family, index.tables.codes[:, 0]
    promises = naive.promises(vectors, family.centroids[0], family.radii[0], family.lengths, reach)
    for i, found in enumerate(look(index, queries, limit, reach)):
        assert (np.diff(found) > 0).all()
        assert len(found) == min(limit, n_neurons)
        worst = logits[i, found].min()
        better = np.setdiff1d(np.flatnonzero(logits[i] > worst + 1e-4), found)
        assert (promises[i, codes[better]] + shifts[i] < worst + 1e-4).all()


def test_as_many_are_found_as_there_is_room_for():
    """Until so many are kept, others need not promise as much as the worst of these."""
    weight, queries = (np.abs(part) for part in problem(60, 5)[1:])
    weight[:, -1] = 0
    weight[:6] *= 1000  # they fill the first levels, and the others promise less than any
    index = NeuronIndex(TableConfig(n_buckets=1), seed=0)
    with Workers(1) as workers:
        index.fit(weight, dense_rows(queries), workers)
    index.keep_rows(weight)
    for limit in (20, 59, 60, 61):
        assert [len(found) for found in look(index, queries, limit, 0)] == [min(limit, 60)] * 5


@pytest.mark.parametrize("d", [5, 64])
@pytest.mark.parametrize("shift", [-50.0, 0.0, 50.0])
def test_a_search_that_goes_far_enough_finds_the_best(d, shift):
    index, weight, queries = problem(700, d, seed=2, shift=shift)
    logits = queries @ small_rows(weight, "int8", neurons=True).floats(0, 700).T
    found = look(index, queries, 10, 1000)
    best = -np.sort(-logits, axis=1)[:, :10]
    got = np.stack([-np.sort(-logits[i, f]) for i, f in enumerate(found)])
    assert_allclose(got[:, :8], best[:, :8], rtol=1e-4, atol=1e-4)


def test_a_search_that_goes_further_finds_more():
    rng = np.random.default_rng(0)
    index, weight, _ = problem(5000, 64, 40)
    queries = np.full((200, 65), BIAS_INPUT, np.float32)
    queries[:, :-1] = weight[:200, :-1] + rng.standard_normal((200, 64))
    best = np.argsort(-(queries @ weight.T), axis=1)[:, :5]
    recalls = []
    for reach in (0, 2, 4, 8):
        found = look(index, queries, 10, reach)
        recalls.append(np.mean([np.isin(b, f).mean() for b, f in zip(best, found, strict=True)]))
    assert recalls == sorted(recalls)
    assert recalls[0] < 0.9 < 0.99 < recalls[-1]


@pytest.mark.parametrize("family", ["centroids", "simhash"])
@pytest.mark.parametrize("d", [5, 64])
def test_sparse_queries_find_what_they_find_as_dense_ones(family, d):
    """A hashed hidden layer leaves sparse ones; what lay behind them in memory was read, too."""
    rng = np.random.default_rng(1)
    weight = rng.standard_normal((300, d + 1)).astype(np.float32)
    queries = np.full((40, d + 1), BIAS_INPUT, np.float32)
    queries[:, :-1] = rng.standard_normal((40, d)) * (rng.random((40, d)) < 0.3)
    index = NeuronIndex(TableConfig(family=family, k=2, n_buckets=6), seed=0)
    with Workers(1) as workers:
        index.fit(weight, dense_rows(queries), workers)
    index.keep_rows(weight)
    size = Lookup(4, 7, 1, 1, 0, 5.0)
    sparse = sparse_rows(csr_matrix(queries[:, :-1]))
    for start in (0, 39):
        one, other = index.lookup(dense_rows(queries[start:]), size), sparse.part(start, 40)
        found = index.lookup(other, size)
        assert_array_equal(found.indptr, one.indptr)
        assert_array_equal(found.neurons, one.neurons)
        assert len(found.neurons) == 7 * (40 - start)


def test_queries_and_neurons_of_zeros():
    index, weight, queries = problem(50, 5)
    assert [len(found) for found in look(index, np.zeros_like(queries), 7, 3)] == [7] * 5
    weight[:] = 0
    with Workers(1) as workers:
        index.fit(weight, dense_rows(queries), workers)
    index.keep_rows(weight)
    assert_array_equal(look(index, queries, 7, 3), np.tile(np.arange(7), (5, 1)))


def test_numbers_that_are_none_end():
    index, _, queries = problem(50, 70)
    queries[1, 3] = np.nan
    assert len(look(index, queries, 7, 3)[1]) <= 7


def test_an_outline_says_where_neurons_of_a_direction_begin():
    index, _, _ = problem(300, 5, 20)
    outline, family = make_outline(index.family, index.tables), index.family
    own = np.diff(index.tables.offsets[0]).reshape(-1, family.n_levels)
    for direction, start in enumerate(outline.starts):
        levels = np.flatnonzero(own[direction])
        assert start == (levels[0] if len(levels) else family.n_levels)
        assert outline.longest[direction] == (family.lengths[start] if len(levels) else 0)
