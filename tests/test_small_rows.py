import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from batches import random_features
from slidelearn.config import TableConfig
from slidelearn.index import Lookup, NeuronIndex
from slidelearn.layers import Pairs, pair_logits, small_logits
from slidelearn.rows import BIAS_INPUT, dense_rows, product, sparse_rows
from slidelearn.small_rows import SMALL_TYPES, small_product, small_rows
from slidelearn.tables import build_tables, rank_probed
from slidelearn.workers import Workers


def weights(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def hidden(n, d, seed=0):
    rows = np.full((n, d + 1), BIAS_INPUT, np.float32)
    rows[:, :-1] = weights(n, d, seed + 1)
    return dense_rows(rows)


@pytest.mark.parametrize("dtype", SMALL_TYPES)
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_rounding_stays_within_half_a_step_of_every_row(dtype, scale):
    weight = weights(9, 30) * np.float32(scale)
    weight[3] = 0
    rows = small_rows(weight, dtype, neurons=True)
    assert rows.values.dtype == SMALL_TYPES[dtype]
    if dtype == "bf16":  # 8 bits of every number
        step = np.abs(weight[:, :-1]) / 2**7
    else:
        step = np.abs(weight[:, :-1]).max(axis=1, keepdims=True) / np.iinfo(dtype).max
    back = rows.floats(0, 9)
    assert (np.abs(back[:, :-1] - weight[:, :-1]) <= 0.51 * step).all()
    assert_array_equal(back[:, -1], weight[:, -1])
    whole = small_rows(weight, dtype, neurons=False)
    assert whole.floats(2, 5).shape == (3, 30)


def test_rows_may_come_in_another_order_or_not_at_all():
    weight, order = weights(5, 4), np.array([4, 0, 3], np.int32)
    some, all_ = (small_rows(weight, "int8", neurons=True, order=o) for o in (order, None))
    assert_array_equal(some.floats(0, 3), all_.floats(0, 5)[order])
    assert small_rows(weight[:0], "int8", neurons=True).floats(0, 0).shape[0] == 0


@pytest.mark.nojit
@pytest.mark.parametrize("dtype", SMALL_TYPES)
def test_products_of_small_rows_are_those_of_their_floats(dtype):
    h, rows = hidden(3, 7), small_rows(weights(11, 8), dtype, neurons=True)
    pairs = Pairs(np.array([0, 2, 2, 5]), np.array([1, 10, 0, 4, 9], np.int32))
    got, ref = np.empty(5, np.float32), np.empty(5, np.float32)
    small_logits(h, rows, pairs, got)
    pair_logits(h, rows.floats(0, 11), pairs, ref)
    assert_allclose(got, ref, rtol=1e-5, atol=1e-6)
    x, rows = sparse_rows(random_features(4, 6, 0)), small_rows(weights(7, 5), dtype, neurons=False)
    got = np.empty((4, 5), np.float32)
    small_product(x, rows, got)
    assert_allclose(got, product(x, rows.floats(0, 7)), rtol=1e-5, atol=1e-6)


@pytest.mark.nojit
@given(st.integers(0, 99), st.integers(1, 40), st.integers(1, 60), st.integers(1, 6))
@settings(deadline=None, max_examples=25)
def test_ranking_finds_the_best_of_the_probed_buckets(seed, n_neurons, limit, n_probes):
    rng, d, n_buckets = np.random.default_rng(seed), 5, 6
    weight, h = weights(n_neurons, d + 1, seed), hidden(4, d, seed)
    tables = build_tables(rng.integers(0, n_buckets, (n_neurons, 1), np.int32), n_buckets)
    rows = small_rows(weight, "int8", neurons=True, order=tables.neurons[0])
    probes = np.stack([rng.permutation(n_buckets)[:n_probes] for _ in range(4)])
    probes = probes[:, None].astype(np.int32)
    probes[rng.random(probes.shape) < 0.2] = -1
    found = rank_probed(tables, rows, probes, h, limit)
    exact = h.matrix() @ small_rows(weight, "int8", neurons=True).floats(0, n_neurons).T
    for i in range(4):
        near = np.flatnonzero(np.isin(tables.codes[:, 0], probes[i, 0]))
        ref = near[np.argsort(-exact[i, near], kind="stable")][:limit]
        got = found.neurons[found.indptr[i] : found.indptr[i + 1]]
        assert (np.diff(got) > 0).all()
        assert_allclose(np.sort(exact[i, got]), np.sort(exact[i, ref]), rtol=1e-5, atol=1e-6)


def test_an_index_ranks_by_the_rows_that_it_keeps_until_neurons_move():
    weight, h = weights(500, 9), hidden(20, 8)
    index = NeuronIndex(TableConfig(n_buckets=8), seed=0)
    size = Lookup(probes=1, limit=5, wide_cap=1, wide_limit=1, few=0, reach=1000)
    exact = np.argsort(-(h.matrix() @ weight.T), axis=1)[:, :5]
    with Workers(1) as workers:
        index.fit(weight, h, workers)
        index.keep_rows(weight)
        found = index.lookup(h, size)
        assert np.mean(np.sort(exact, axis=1).ravel() == found.neurons) > 0.9
        index.refile(weight, np.arange(3), workers)
        assert index.rows is None
        index.keep_rows(weight)
        index.rebuild(weight, workers)
        assert index.rows is None


def test_several_tables_keep_no_rows():
    index = NeuronIndex(TableConfig(l=2, n_buckets=4), seed=0)
    weight, h = weights(50, 9), hidden(20, 8)
    with Workers(1) as workers:
        index.fit(weight, h, workers)
    index.keep_rows(weight)
    assert index.rows is None
    assert len(index.lookup(h, Lookup(4, 50, 1, 1, 0)).neurons)
