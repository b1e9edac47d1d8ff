"""How far centroids of few examples are trusted: the choice against a plain one, and on shapes."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.sparse import csr_matrix

import naive
from batches import label_matrix, random_features, random_labels
from slidelearn.config import Config
from slidelearn.csr import count_ids
from slidelearn.doubt import Centroids, choose_doubt, trust
from slidelearn.network import make_network
from slidelearn.start import start_network
from slidelearn.wide import make_wide
from slidelearn.workers import Workers


def choose(X, Y, threads=1, **settings):
    config = Config(**settings)
    wide, own = make_wide(X, Y, config.wide)
    with Workers(threads) as workers:
        centroids = Centroids(wide, own, count_ids(Y.indices, Y.shape[1]), config.wide)
        return choose_doubt(centroids, X, Y, config, workers)


def near_its_label(n_labels, each, seed=0):
    """Examples that share a few features with the others of their label: (X, Y)."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(n_labels), each)
    own = rng.integers(0, 2000, (n_labels, 6))
    X = np.zeros((len(labels), 2000), np.float32)
    for i, label in enumerate(labels):
        X[i, rng.choice(own[label], 3, replace=False)] = 1
        X[i, rng.integers(0, 40, 4)] = 1
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return csr_matrix(X), label_matrix(labels[:, None], n_labels)


def test_trust_is_the_oracles():
    Y = random_labels(30, 12).toarray()
    for doubt in (3.0, 1.0, 0.3, 0.0):
        assert_allclose(trust(Y.sum(axis=0), doubt), naive.trust(Y, doubt)[:, 0], rtol=1e-6)
    assert_allclose(trust(Y.sum(axis=0), None), naive.trust(Y)[:, 0], rtol=1e-6)


@pytest.mark.nojit
@pytest.mark.parametrize("seed", range(6))
def test_the_choice_is_the_oracles(seed):
    X = abs(random_features(60, 25, seed, density=0.2))
    Y = random_labels(60, 4 + 8 * seed, seed)
    for prior in (0.0, 0.6):
        ref = naive.choose_doubt(X.toarray().astype(float), Y.toarray().astype(float), 30, prior)
        assert choose(X, Y, wide=30.0, prior=prior) == ref


def test_labels_of_two_examples_are_trusted():
    assert choose(*near_its_label(300, 2)) == 0


def test_many_labels_that_are_seldom_right_are_not():
    """Half of the examples of 20 labels have one of 600 others instead, which say nothing."""
    X, Y = near_its_label(20, 120)
    rng = np.random.default_rng(1)
    wrong = rng.random(2400) < 0.5
    labels = np.where(wrong, rng.integers(20, 620, 2400), Y.indices)
    assert choose(X, label_matrix(labels[:, None], 620)) == 3


def test_threads_do_not_change_the_choice():
    X, Y = near_its_label(100, 3)
    assert len({choose(X, Y, threads) for threads in (1, 2, 3, 7)}) == 1


@pytest.mark.nojit
@pytest.mark.parametrize("labels", [[[0]], [[0], [0]], [[], []]])
def test_the_smallest_data_have_a_choice(labels):
    Y = label_matrix(labels, 1)
    assert choose(random_features(len(labels), 5), Y) == 3


@pytest.mark.nojit
def test_examples_that_cancel_out_have_a_choice():
    X = csr_matrix(np.array([[1, 0], [-1, 0], [0, 1]], np.float32))
    assert choose(X, label_matrix([[0], [0], [1]], 2)) == 3


def test_labels_start_as_long_as_they_are_trusted():
    X, Y = near_its_label(300, 2)
    for doubt, expected, length in ((None, 0.0, 60.0), (0.3, 0.3, 30.0), (5.0, 5.0, 30.0)):
        config = Config(hidden=(8,), doubt=doubt)
        network = make_network(config, X.shape[1], Y.shape[1], np.random.default_rng(0))
        with Workers(1) as workers:
            network, own, chosen = start_network(network, config, X, Y, workers)
        assert (chosen.doubt, chosen.wide) == (expected, length)
        ref = naive.label_centroids(
            X.toarray().astype(float), Y.toarray().astype(float),
            length * naive.trust(Y.toarray(), expected),
        )  # fmt: skip
        wide = network.wide
        ours = csr_matrix((wide.weights, wide.features, wide.indptr), ref.shape).toarray()
        assert_allclose(ours, ref, rtol=1e-4, atol=1e-4)
        assert_allclose(own.wide[:, None] * (Y.T @ X).toarray(), ref, rtol=1e-4, atol=1e-4)
