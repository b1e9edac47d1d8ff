import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import naive
from batches import random_features
from slidelearn.layers import (
    Pairs,
    group_entries,
    keep_pairs,
    make_layer,
    pair_input_gradient,
    pair_logits,
    update_rows,
)
from slidelearn.optimizers import Step
from slidelearn.rows import dense_rows, sparse_rows
from slidelearn.workers import Workers

N, D, N_OUT = 6, 5, 9
ACTIVE = [[3, 0], [8], [], [1, 2, 3], [8, 0], [4]]


def make_rows(kind):
    X = random_features(N, D)
    if kind == "sparse":
        return sparse_rows(X), X.toarray()
    return dense_rows(naive.with_bias(X.toarray()).astype(np.float32)), X.toarray()


def make_pairs(active=ACTIVE):
    indptr = np.concatenate(([0], np.cumsum([len(a) for a in active])))
    return Pairs(indptr, np.concatenate(active).astype(np.int32))


def random_layer(optimizer="sgd", n_out=N_OUT, width=D):
    rng = np.random.default_rng(3)
    layer = make_layer(width, n_out, hashed=True, optimizer=optimizer, scale=1.0, rng=rng)
    layer.weight[:, -1] = rng.standard_normal(n_out)
    return layer


def serial(work, ranges):
    return [work(*r) for r in ranges]


both = pytest.mark.parametrize("kind", ["sparse", "dense"])


@pytest.mark.nojit
@given(st.lists(st.floats(-1, 1, width=32), min_size=9, max_size=9), st.floats(0, 1, width=32))
@settings(max_examples=30, deadline=None)
def test_pairs_of_large_deltas_are_kept(deltas, least):
    pairs, delta = make_pairs(), np.array(deltas, np.float32)
    kept, places = keep_pairs(pairs, delta, least)
    assert places.tolist() == [p for p, value in enumerate(deltas) if abs(value) >= least]
    assert kept.neurons.tolist() == pairs.neurons[places].tolist()
    owners = np.repeat(np.arange(N), np.diff(pairs.indptr))[places]
    assert np.diff(kept.indptr).tolist() == np.bincount(owners, minlength=N).tolist()


@pytest.mark.nojit
def test_pairs_whose_delta_is_no_number_are_kept():
    delta = np.full(9, np.nan, np.float32)
    delta[4] = 0
    _, places = keep_pairs(make_pairs(), delta, 0.5)
    assert places.tolist() == [0, 1, 2, 3, 5, 6, 7, 8]


@pytest.mark.parametrize("hashed", [True, False])
def test_a_layer_starts_uniform_without_biases(hashed):
    rng = np.random.default_rng(0)
    layer = make_layer(80, 90, hashed=hashed, optimizer="adam", scale=0.5, rng=rng)
    weight = layer.weight if hashed else layer.weight.T
    assert (layer.n_in, layer.n_out) == (80, 90)
    assert weight.dtype == np.float32
    assert weight.shape == (90, 81)
    assert not weight[:, -1].any()
    assert_allclose(weight[:, :-1].std(), 0.5, rtol=0.03)
    assert_allclose(weight[:, :-1].mean(), 0, atol=0.03)
    assert_allclose(np.abs(weight).max(), 0.5 * np.sqrt(3), rtol=0.01)
    assert layer.optimizer.first.shape == layer.weight.shape


def test_a_layer_of_scale_0_is_zero():
    rng = np.random.default_rng(0)
    layer = make_layer(3, 4, hashed=True, optimizer="sgd", scale=0.0, rng=rng)
    assert not layer.weight.any()


@pytest.mark.nojit
@both
def test_pair_logits(kind):
    rows, X = make_rows(kind)
    weight, pairs = random_layer().weight, make_pairs()
    out = np.empty(len(pairs.neurons), np.float32)
    pair_logits(rows, weight, pairs, out)
    ref = naive.pair_logits(X, weight.astype(float), ACTIVE)
    assert_allclose(out, ref, rtol=1e-5, atol=1e-6)


@pytest.mark.nojit
@both
def test_pair_input_gradient_adds(kind):
    rows, X = make_rows(kind)
    weight, pairs = random_layer().weight, make_pairs()
    delta = np.random.default_rng(4).standard_normal(len(pairs.neurons)).astype(np.float32)
    out = np.ones_like(rows.values)
    pair_input_gradient(rows, weight, pairs, delta, out)
    ref, place = np.ones((N, D + 1)), 0
    for i, neurons in enumerate(ACTIVE):
        for neuron in neurons:
            ref[i] += delta[place] * weight[neuron]
            place += 1
    stored = ref.ravel() if kind == "dense" else ref[:, :-1][X != 0]
    assert_allclose(out, stored, rtol=1e-5, atol=1e-6)


ids = st.lists(st.integers(0, 20), max_size=30)


@given(ids, st.sets(st.integers(0, 20)))
@settings(deadline=None)
def test_groups_hold_every_entry_once_in_order(entries, shared):
    shared = np.array(sorted(shared), np.int64)
    groups = group_entries(np.array(entries, np.int32), shared)
    assert groups.rows.tolist() == sorted(set(entries) | set(shared.tolist()))
    for k, row in enumerate(groups.rows):
        own = groups.entries[groups.indptr[k] : groups.indptr[k + 1]]
        assert own.tolist() == [e for e, value in enumerate(entries) if value == row]
        place = groups.shared[k]
        assert (shared[place] == row) if place >= 0 else row not in shared


def test_groups_keep_ids_apart_that_float32_cannot():
    ids = np.array([2**24 + 1, 2**24, 2**31 - 2, 2**24 + 1], np.int32)
    groups = group_entries(ids, np.array([65_536, 2**31 - 3], np.int32))
    assert groups.rows.tolist() == [65_536, 2**24, 2**24 + 1, 2**31 - 3, 2**31 - 2]
    assert groups.entries.tolist() == [1, 0, 3, 2]


@pytest.mark.nojit
@both
@pytest.mark.parametrize("optimizer", ["adagrad", "sgd", "adam"])
def test_update_rows_moves_the_touched_rows_by_their_whole_gradient(kind, optimizer):
    rows, X = make_rows(kind)
    layer, pairs = random_layer(optimizer), make_pairs()
    rng, before = np.random.default_rng(5), layer.weight.copy()
    shared = np.array([0, 6], np.int32)
    delta = rng.standard_normal(len(pairs.neurons)).astype(np.float32)
    shared_gradient = rng.standard_normal((2, D + 1)).astype(np.float32)
    owners = np.repeat(np.arange(N), [len(a) for a in ACTIVE])
    groups = group_entries(pairs.neurons, shared)
    step = Step(0.1, 0.5)
    update_rows(layer, groups, (owners, delta), rows, shared_gradient, step, serial)
    gradient = np.zeros((N_OUT, D + 1))
    np.add.at(gradient, pairs.neurons, delta[:, None] * naive.with_bias(X)[owners])
    gradient[shared] += shared_gradient
    touched = np.union1d(pairs.neurons, shared)
    ref = naive.move_rows(optimizer, before, gradient, touched, 0.1, 0.5)
    assert_allclose(layer.weight, ref, rtol=2e-5, atol=2e-6)
    rest = np.setdiff1d(np.arange(N_OUT), touched)
    assert np.array_equal(layer.weight[rest], before[rest])


def test_update_rows_does_not_depend_on_threads():
    n, n_out = 300, 1000
    rng = np.random.default_rng(6)
    rows = sparse_rows(random_features(n, D))
    ids = rng.integers(0, n_out, 20 * n)
    groups = group_entries(ids, np.arange(0, n_out, 3))
    delta = rng.standard_normal(len(ids)).astype(np.float32)
    owners = np.repeat(np.arange(n), 20)
    shared = rng.standard_normal((len(range(0, n_out, 3)), D + 1)).astype(np.float32)
    weights = []
    for threads in (1, 2, 7):
        layer = random_layer("adagrad", n_out)
        with Workers(threads) as workers:
            update_rows(layer, groups, (owners, delta), rows, shared, Step(0.1, 0), workers.map)
        weights.append(layer.weight)
    assert np.array_equal(weights[0], weights[1])
    assert np.array_equal(weights[0], weights[2])
