"""What the start makes of the data: weights of features and doubts, against plain ones."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.sparse import csr_matrix

import naive
from batches import label_matrix, random_features, random_labels
from slidelearn.choosing import choose_start
from slidelearn.compacting import compact_model
from slidelearn.config import Config
from slidelearn.datasets import Dataset
from slidelearn.errors import ModelError
from slidelearn.fitting import continue_model, fit_model
from slidelearn.leave_one_out import (
    Metrics,
    asked_rows,
    inverse_lengths,
    rank_left_out,
    trust,
)
from slidelearn.model import prepare_features
from slidelearn.model_file import load_model, save_model
from slidelearn.network import make_network
from slidelearn.start import start_network
from slidelearn.weighting import measure_features
from slidelearn.workers import Workers

POWERS = {
    1: ((0.5, 0), (1, 0), (0, 0), (2, 0), (2, 2)),
    0.5: ((0.5, 0), (0, 0), (0.5, 1), (1, 1), (2, 1)),
}
DOUBTS = (3, 10, 1, 0.3, 0)
PLAIN = {"relevance": 0.0, "rarity": 0.0}


def choose(X, Y, threads=1, **settings):
    """Settings and weights that are chosen."""
    with Workers(threads) as workers:
        return choose_start(X, Y, Config(**settings), workers)


def choose_doubt(X, Y, threads=1, **settings):
    return choose(X, Y, threads, **PLAIN, **settings)[0].doubt


def dense(*matrices):
    return [matrix.toarray().astype(float) for matrix in matrices]


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
@pytest.mark.parametrize("seed", range(4))
def test_features_are_worth_what_the_oracle_says(seed):
    X, Y = random_features(60, 25, seed), random_labels(60, 4 + 8 * seed, seed)
    with Workers(1) as workers:
        relevance, rarity = measure_features(X, Y, workers)
    for ours, ref in zip((relevance, rarity), naive.feature_values(*dense(X, Y)), strict=True):
        assert_allclose(ours, ref, rtol=1e-9)


@pytest.mark.nojit
@pytest.mark.parametrize(("power", "ignored"), [(1.0, 0.0), (0.5, 0.0), (0.3, 0.2)])
@pytest.mark.parametrize("seed", range(4))
def test_left_out_examples_rank_labels_as_the_oracles_do(seed, power, ignored):
    X, Y = random_features(60, 25, seed, density=0.2), random_labels(60, 8 * seed + 4, seed)
    factors = np.random.default_rng(seed).uniform(0.1, 1, (25, 3)).astype(np.float32)
    rows = asked_rows(60, 40, Config(seed=seed))
    with Workers(1) as workers:
        scales = inverse_lengths(X, factors, power)
        metrics = Metrics(factors, scales, (3.0, 0.0), power, ignored)
        sums = rank_left_out(X, Y, rows, Config(), workers, metrics)
    weighted = [naive.weighted(*dense(X), column, power) for column in factors.T.astype(float)]
    kept = naive.largest_features(weighted, ignored)
    assert kept[X.toarray() != 0].all() == (ignored == 0)
    for metric, x in enumerate(weighted):
        for place, doubt in enumerate((3, 0)):
            ref = naive.left_out_precisions(x, dense(Y)[0], 30, 0.6, doubt, asking=x * kept)
            assert_allclose(sums[metric, place], ref[rows], atol=1e-9)


@pytest.mark.nojit
@pytest.mark.parametrize("seed", range(6))
def test_the_choice_is_the_oracles(seed):
    X = prepare_features(abs(random_features(60, 25, seed, density=0.2)), Config())
    Y = random_labels(60, 4 + 8 * seed, seed)
    x, y = dense(X, Y)
    relevance, rarity = naive.feature_values(x, y)
    for prior in (0.0, 0.6):
        found = []
        for power, pairs in POWERS.items():
            rows = [naive.weighted(x, relevance**a * rarity**b, power) for a, b in pairs]
            sums = np.array(
                [[naive.left_out_precisions(r, y, 30, prior, d) for d in DOUBTS] for r in rows]
            )
            best = sums.sum(axis=2).argmax(axis=1)
            found.append((power, pairs, rows, sums, sums[np.arange(len(pairs)), best]))
        tops = [by_pair[by_pair.sum(axis=1).argmax()] for *_, by_pair in found]
        power, pairs, rows, sums, by_pair = found[naive.as_good(tops, errors=1)[0]]
        pair = naive.as_good(by_pair)[0]
        left, ours = naive.as_good(sums[pair]), rows[pair]
        if len(left) > 1:
            asking = ours * naive.largest_features([ours], 0.1)
            again = [
                naive.left_out_precisions(ours, y, 30, prior, DOUBTS[d], asking=asking)
                for d in left
            ]
            left = left[naive.as_good(again)]
        doubt, (a, b) = DOUBTS[left[0]], pairs[pair]
        config, weights = choose(X, Y, prior=prior)
        chosen = config.value_power, config.relevance, config.rarity, config.doubt
        assert chosen == (power, a, b, doubt)
        assert config.wide == (60 if doubt < 1 else 30)
        if a or b:
            ref = relevance**a * rarity**b
            assert_allclose(weights, ref / ref.max(), rtol=1e-5)
        else:
            assert weights.shape == (0,)


def of_templates(n_labels, each, seed=0):
    """Examples with two words of their label, and eight of one of 40 templates: (X, Y)."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(n_labels), each)
    templates = rng.integers(0, 400, (40, 8))
    X = np.zeros((len(labels), 400 + 3 * n_labels), np.float32)
    for i, label in enumerate(labels):
        X[i, templates[rng.integers(40)]] = 1
        X[i, 400 + 3 * label + rng.choice(3, 2, replace=False)] = 1
    return csr_matrix(X), label_matrix(labels[:, None], n_labels)


def test_words_of_templates_count_less_than_those_of_labels():
    X, Y = of_templates(300, 4)
    config, weights = choose(prepare_features(X, Config()), Y)
    assert config.relevance > 0
    seen = np.diff(X.tocsc().indptr) > 0
    assert weights[:400][seen[:400]].max() < 0.8 * weights[400:][seen[400:]].min()


def test_data_that_count_words_are_weighted_by_rarity():
    """Some words are in most examples, and the more often the less they say."""
    X, Y = near_its_label(300, 3)
    stops = csr_matrix(np.random.default_rng(0).poisson(3, (900, 20)).astype(np.float32))
    rows = csr_matrix(np.hstack([X.astype(bool).astype(np.float32).toarray(), stops.toarray()]))
    config, weights = choose(prepare_features(rows, Config()), Y)
    assert config.rarity > 0
    assert weights[-20:].max() < 0.5 * np.median(weights)


def repeating(n_labels, each, seed=0):
    """Examples that say two of five words of their label, and repeat common words: (X, Y)."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(n_labels), each)
    X = np.zeros((len(labels), 300 + 5 * n_labels), np.float32)
    for i, label in enumerate(labels):
        X[i, rng.choice(300, 6, replace=False)] = rng.geometric(0.1, 6)
        X[i, 300 + 5 * label + rng.choice(5, 2, replace=False)] = 1
    return csr_matrix(X), label_matrix(labels[:, None], n_labels)


def test_words_that_are_repeated_count_as_their_root_where_that_says_more():
    X, Y = repeating(300, 4)
    config, weights = choose(prepare_features(X, Config()), Y)
    assert config.value_power == 0.5
    given = {"value_power": 1.0, "relevance": config.relevance, "rarity": config.rarity}
    assert choose(X, Y, **given)[0].value_power == 1
    rows = prepare_features(X, config, weights)
    assert rows[:, 300:].sum() > prepare_features(X, Config(), weights)[:, 300:].sum()


def test_what_is_given_is_not_chosen():
    X, Y = of_templates(100, 3)
    config, weights = choose(X, Y, relevance=2.0, doubt=1.0)
    assert (config.relevance, config.rarity, config.doubt, config.wide) == (2.0, 0.0, 1.0, 30.0)
    relevance, _ = naive.feature_values(*dense(X, Y))
    assert_allclose(weights, relevance**2 / (relevance**2).max(), rtol=1e-5)
    config, weights = choose(X, Y, normalize=False)
    assert (config.relevance, config.rarity, len(weights)) == (0, 0, 0)
    assert choose(X, Y, wide=0.0)[0].doubt is None


@given(st.floats(0.01, 100), st.integers(0, 3), st.sampled_from([1.0, 0.5, 0.3, 0.0]))
def test_how_long_an_example_is_changes_no_weighted_features(scale, seed, power):
    X = random_features(12, 8, seed)
    weights = np.random.default_rng(seed).uniform(0.1, 1, 8).astype(np.float32)
    ref, config = naive.weighted(*dense(X), weights, power), Config(value_power=power)
    for rows in (X, X * np.float32(scale)):
        assert_allclose(prepare_features(rows, config, weights).toarray(), ref, atol=1e-5)


def test_a_model_weighs_what_it_is_asked(tmp_path):
    """Loaded, continued or not: scores are those of weighted examples without weights."""
    X, Y = of_templates(60, 5)
    data = Dataset(X, Y)
    settings = {"hidden": [16], "value_power": 0.5, "relevance": 1.0, "threads": 1}
    model = fit_model(data, settings)
    weights = model.network.feature_weights
    assert weights.shape == (X.shape[1],)
    plain = replace(
        model,
        config=replace(model.config, value_power=1.0),
        network=model.network._replace(feature_weights=weights[:0]),
    )
    rows = X.sqrt().multiply(weights).tocsr().astype(np.float32)
    assert_allclose(model.scores(X), plain.scores(rows), rtol=1e-3, atol=1e-3)
    save_model(model, tmp_path / "m")
    loaded = load_model(tmp_path / "m")
    assert np.array_equal(loaded.scores(X), model.scores(X))
    assert np.array_equal(compact_model(loaded, "int8").network.feature_weights, weights)
    more = continue_model(model, data, epochs=1)
    assert np.array_equal(more.network.feature_weights, weights)


def test_a_model_without_its_weights_is_damaged(tmp_path):
    X, Y = of_templates(30, 4)
    model = fit_model(Dataset(X, Y), {"hidden": [8], "relevance": 1.0, "threads": 1})
    nothing = model.network.feature_weights[:0]
    save_model(replace(model, network=model.network._replace(feature_weights=nothing)), tmp_path)
    with pytest.raises(ModelError, match="feature_weights"):
        load_model(tmp_path)


def test_labels_of_two_examples_are_trusted():
    assert choose_doubt(*near_its_label(300, 2)) == 0


def test_many_labels_that_are_seldom_right_are_not():
    """Half of the examples of 20 labels have one of 600 others instead, which say nothing."""
    X, Y = near_its_label(20, 120)
    rng = np.random.default_rng(1)
    wrong = rng.random(2400) < 0.5
    labels = np.where(wrong, rng.integers(20, 620, 2400), Y.indices)
    assert choose_doubt(X, label_matrix(labels[:, None], 620)) == 3


def test_threads_do_not_change_the_choice():
    X, Y = near_its_label(100, 3)
    chosen = [choose(X, Y, threads) for threads in (1, 2, 3, 7)]
    assert all(config == chosen[0][0] for config, _ in chosen)
    assert all(np.array_equal(weights, chosen[0][1]) for _, weights in chosen)


@pytest.mark.nojit
@pytest.mark.parametrize("labels", [[[0]], [[0], [0]], [[], []]])
def test_the_smallest_data_have_a_choice(labels):
    Y = label_matrix(labels, 1)
    assert choose(random_features(len(labels), 5), Y)[0].doubt == 3


@pytest.mark.nojit
def test_examples_that_cancel_out_have_a_choice():
    X = csr_matrix(np.array([[1, 0], [-1, 0], [0, 1]], np.float32))
    assert choose_doubt(X, label_matrix([[0], [0], [1]], 2)) == 3


def test_labels_start_as_long_as_they_are_trusted():
    X, Y = near_its_label(300, 2)
    for doubt, expected, length in ((None, 0.0, 60.0), (0.3, 0.3, 30.0), (5.0, 5.0, 30.0)):
        config = Config(hidden=(8,), doubt=doubt, **PLAIN)
        network = make_network(config, X.shape[1], Y.shape[1], np.random.default_rng(0))
        with Workers(1) as workers:
            chosen, _ = choose_start(X, Y, config, workers)
            network, own = start_network(network, chosen, X, Y, workers)
        assert (chosen.doubt, chosen.wide) == (expected, length)
        ref = naive.label_centroids(
            X.toarray().astype(float), Y.toarray().astype(float),
            length * naive.trust(Y.toarray(), expected),
        )  # fmt: skip
        wide = network.wide
        ours = csr_matrix((wide.weights, wide.features, wide.indptr), ref.shape).toarray()
        assert_allclose(ours, ref, rtol=1e-4, atol=1e-4)
        assert_allclose(own.wide[:, None] * (Y.T @ X).toarray(), ref, rtol=1e-4, atol=1e-4)
