import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.sparse import csr_matrix

import naive
from batches import random_labels
from problems import clusters
from slidelearn.config import Config
from slidelearn.layers import Pairs, pairs_of
from slidelearn.prior import (
    add_prior,
    fold_prior,
    make_prior,
    move_prior,
    pair_classes,
    prior_gradient,
)
from slidelearn.sampling import Tail, join_strata
from slidelearn.training import Trainer
from slidelearn.workers import Workers

N, N_LABELS = 8, 12
COUNTS = np.array([0, 1, 1, 2, 3, 5, 8, 8, 30, 31, 500, 70_000])


def make_strata():
    rng = np.random.default_rng(0)
    found = np.concatenate([rng.choice(N_LABELS, 3, replace=False) for _ in range(N)])
    pairs = Pairs(np.arange(N + 1) * 3, found.astype(np.int32))
    tail = Tail(np.array([2, 7, 11], np.int32), np.ones(3, np.float32))
    Y = random_labels(N, N_LABELS)
    Y = csr_matrix(Y.toarray() * (COUNTS > 0))
    return Y, join_strata(pairs_of(Y), pairs, tail)


@pytest.mark.nojit
@pytest.mark.parametrize("own", [0, 1])
def test_labels_of_a_class_share_a_bias(own):
    prior, (Y, strata) = make_prior(COUNTS, own), make_strata()
    rng = np.random.default_rng(1)
    prior.bias[:] = rng.standard_normal(len(prior.bias))
    owners = np.repeat(np.arange(N), np.diff(strata.indptr))
    pairs, shared = np.zeros(len(strata.neurons), np.float32), np.zeros((N, 3), np.float32)
    own_classes = pair_classes(prior, strata)
    add_prior(prior, strata, own_classes, pairs, shared)
    classes = naive.prior_classes(COUNTS, own * Y.toarray().astype(int))
    assert_allclose(pairs, prior.bias[classes[owners, strata.neurons]])
    without = naive.prior_classes(COUNTS, 0)
    assert_allclose(shared, np.tile(prior.bias[without[strata.shared]], (N, 1)))
    pairs[:] = rng.standard_normal(len(pairs))
    shared[:] = rng.standard_normal(shared.shape)
    ref = np.bincount(classes[owners, strata.neurons], pairs, len(prior.bias))
    ref += np.bincount(without[strata.shared], shared.sum(axis=0), len(prior.bias))
    gradient = prior_gradient(prior, strata, own_classes, pairs, shared)
    assert_allclose(gradient, ref, rtol=1e-5, atol=1e-5)
    before = prior.bias.copy()
    move_prior(prior, gradient, 0.2)
    assert_allclose(prior.bias, before - 0.2 * ref / np.sqrt(1 + ref**2), rtol=1e-4, atol=1e-5)


def test_folding_moves_the_bias_into_the_layer():
    prior, weight = make_prior(COUNTS, own=1), np.zeros((N_LABELS, 4), np.float32)
    prior.bias[:] = np.arange(len(prior.bias))
    fold_prior(prior, weight)
    assert_allclose(naive.BIAS_INPUT * weight[:, -1], prior.classes, rtol=1e-5)
    assert not prior.bias.any()
    assert not weight[:, :-1].any()


@pytest.mark.parametrize("tail", [5, 100])
def test_after_an_epoch_the_network_holds_the_prior(tail):
    X, Y, _ = clusters(n=200)
    config = Config(hidden=(8,), tail=tail, epochs=1, batch_size=50)
    with Workers(1) as workers:
        trainer = Trainer.start(config, X, Y, workers)
        trainer.run_epoch(X, Y, workers)
    assert (trainer.prior.squares > 1).any()
    assert not trainer.prior.bias.any()
