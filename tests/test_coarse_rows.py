"""Coarse rows against the numbers that they stand for."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import naive
from problems import clusters
from slidelearn.coarse_rows import coarse_bytes, make_coarse
from slidelearn.datasets import Dataset
from slidelearn.fitting import continue_model, fit_model
from slidelearn.layers import Pairs, coarse_logits
from slidelearn.network import with_head
from slidelearn.rows import BIAS_INPUT, dense_rows
from slidelearn.workers import Workers


def neurons(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d + 1)).astype(np.float32)


def made(weight, n_threads=1):
    with Workers(n_threads) as workers:
        return make_coarse(weight, workers)


@pytest.mark.nojit
@pytest.mark.parametrize("d", [1, 2, 7, 30])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_numbers_are_rounded_to_the_nearest_of_fifteen(d, scale):
    weight = neurons(9, d) * np.float32(scale)
    weight[3, :-1] = 0
    rows = made(weight)
    assert sum(part.nbytes for part in rows) == coarse_bytes(9, d)
    back = naive.coarse_floats(*rows, d)
    largest = np.abs(weight[:, :-1]).max(axis=1, keepdims=True)
    assert (np.abs(back - weight[:, :-1]) <= 0.501 * largest / 7).all()
    assert_allclose(np.abs(back).max(axis=1), largest[:, 0], rtol=1e-6)


@pytest.mark.parametrize("n", [0, 1, 10_000])
def test_they_do_not_depend_on_the_threads(n):
    weight = neurons(n, 5)
    for one, other in zip(made(weight), made(weight, 2), strict=True):
        assert_array_equal(one, other)


@pytest.mark.nojit
@pytest.mark.parametrize("d", [7, 40])
def test_logits_are_those_of_the_numbers_and_the_bias(d):
    weight, h = neurons(11, d), np.full((3, d + 1), BIAS_INPUT, np.float32)
    h[:, :-1] = neurons(3, d - 1, seed=1)
    rows, bias = made(weight), BIAS_INPUT * weight[:, -1]
    pairs = Pairs(np.array([0, 2, 2, 5]), np.array([1, 10, 0, 4, 9], np.int32))
    got = np.empty(5, np.float32)
    coarse_logits(dense_rows(h), rows, bias, pairs, got)
    whole = h[:, :-1] @ naive.coarse_floats(*rows, d).T + bias
    assert_allclose(got, whole[[0, 0, 2, 2, 2], pairs.neurons], rtol=1e-4, atol=1e-4)


def test_a_model_has_those_of_its_output_layer_and_its_head_also_after_more_training():
    settings = {"hidden": [24], "tail": 10, "wide": 10.0, "epochs": 1, "batch_size": 64}
    model = fit_model(Dataset(*clusters()[:2]), settings)
    more = Dataset(*clusters(n_labels=50, seed=1)[:2])
    for network in (model.network, continue_model(model, more, epochs=1).network):
        assert len(network.coarse.scales) == network.n_labels
        for part, expected in zip(network.coarse, made(network.output.weight), strict=True):
            assert_array_equal(part, expected)
        assert len(network.head.labels)
        for part, expected in zip(network.head, with_head(network).head, strict=True):
            assert_array_equal(part, expected)
