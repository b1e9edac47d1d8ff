import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

import naive
import slidelearn.margins as margins_module
from batches import label_lists, label_matrix, random_features, random_labels
from problems import clusters
from slidelearn import rivals as rivals_module
from slidelearn.datasets import Dataset
from slidelearn.fitting import continue_model, fit_model
from slidelearn.layers import Pairs, pairs_of
from slidelearn.margins import fit_margins, make_margins
from slidelearn.memory import Worth, make_memory
from slidelearn.model import scale_rows
from slidelearn.rivals import by_rival, find_rivals, keep_rivals
from slidelearn.sampling import Tail, join_strata
from slidelearn.wide import Wide, make_wide
from slidelearn.workers import Workers

N, D, N_LABELS = 30, 6, 8
COST = 0.5


def full_path(n_labels=N_LABELS):
    """A path that has every pair of a label and a feature."""
    size = n_labels * D
    features = np.tile(np.arange(D, dtype=np.int32), n_labels)
    weights = np.ones(size, np.float32)
    return Wide(np.arange(n_labels + 1, dtype=np.int64) * D, features, weights, weights)


def fitted(X, Y, rivals, path=None, threads=1, seed=0):
    margins = make_margins(full_path(Y.shape[1]) if path is None else path, 1.0)
    turned = by_rival([rivals], Y.shape[1])
    with Workers(threads) as workers:
        fit_margins(margins, X, Y, turned, cost=COST, seed=seed, workers=workers)
    return margins


def everyone(Y):
    """Every label as a rival of every example."""
    return np.tile(np.arange(Y.shape[1], dtype=np.int32), (Y.shape[0], 1))


@pytest.mark.parametrize("size", [1, 40, 10**6])
def test_ranges_of_labels_change_nothing(size, monkeypatch):
    X, Y = random_features(N, D), random_labels(N, N_LABELS)
    monkeypatch.setattr(margins_module, "_TASKS", 1)
    margins = fitted(X, Y, everyone(Y))
    monkeypatch.setattr(margins_module, "_RANGE", size)
    cut = fitted(X, Y, everyone(Y), threads=2)
    assert_array_equal(cut.path.weights, margins.path.weights)
    assert_array_equal(cut.bias, margins.bias)


@pytest.mark.nojit
@pytest.mark.parametrize("seed", range(3))
def test_every_label_gets_the_classifier_that_minimises_its_objective(seed):
    X, Y = random_features(N, D, seed, density=0.6), random_labels(N, N_LABELS, seed)
    margins = fitted(X, Y, everyone(Y))
    weights, dense = margins.path.weights.reshape(N_LABELS, D), X.toarray().astype(np.float64)
    for label in range(N_LABELS):
        signs = np.where(Y.toarray()[:, label] > 0, 1.0, -1.0)
        if (signs < 0).all():
            assert not weights[label].any()
            continue

        def objective(v, signs=signs):
            return naive.margin_objective(v[:D], v[D], dense, signs, COST)

        best = minimize(objective, np.zeros(D + 1), tol=1e-9).fun
        got = objective(np.append(weights[label], margins.bias[label]))
        assert best <= got * (1 + 1e-6) <= best * 1.05


def test_a_problem_too_large_for_a_copy_has_the_same_classifier():
    n, d = 14_000, 20
    X = random_features(n, d, density=1.0)
    scale_rows(X)
    assert X.nnz > margins_module._COPIED
    Y = csr_matrix((X[:, 0].toarray() > 0.4).astype(np.uint8))
    path = Wide(np.array([0, d]), np.arange(d, dtype=np.int32), *np.ones((2, d), np.float32))
    margins = fitted(X, Y, np.zeros((n, 1), np.int32), path)
    signs, dense = np.where(Y.toarray()[:, 0] > 0, 1.0, -1.0), X.toarray().astype(np.float64)

    def objective(v):
        return naive.margin_objective(v[:d], v[d], dense, signs, COST)

    got = objective(np.append(margins.path.weights, margins.bias))
    assert got <= minimize(objective, np.zeros(d + 1)).fun * 1.01


@pytest.mark.nojit
@given(st.integers(0, 50), st.integers(0, 9), st.integers(0, N_LABELS))
@settings(deadline=None, max_examples=25)
def test_rivals_are_the_wrong_neurons_of_largest_logits(seed, size, n_tail):
    rng = np.random.default_rng(seed)
    logits = np.round(rng.standard_normal((N, N_LABELS)), 1).astype(np.float32)
    Y = random_labels(N, N_LABELS, seed)
    found = [np.sort(rng.choice(N_LABELS, 3, replace=False)) for _ in range(N)]
    tail = np.sort(rng.choice(N_LABELS, n_tail, replace=False)).astype(np.int32)
    retrieved = Pairs(np.arange(N + 1) * 3, np.concatenate(found).astype(np.int32))
    strata = join_strata(pairs_of(Y), retrieved, Tail(tail, np.ones(n_tail, np.float32)))
    owner = np.repeat(np.arange(N), np.diff(strata.indptr))
    out = np.full((N, size), -1, np.int32)
    keep_rivals(strata, logits[owner, strata.neurons], logits[:, tail], out)
    for i, own in enumerate(label_lists(Y)):
        seen = {*own, *found[i].tolist(), *tail.tolist()}
        hidden = [n for n in range(N_LABELS) if n not in seen]
        ref = naive.rivals(logits[i], {*own, *hidden}, size)
        assert sorted(out[i][out[i] >= 0]) == sorted(ref)


@pytest.mark.nojit
@pytest.mark.parametrize("size", [0, 3, N_LABELS])
def test_rivals_are_what_near_examples_have_and_the_example_has_not(size):
    X, Y = random_features(N, D), random_labels(N, N_LABELS)
    with Workers(2) as workers:
        got = find_rivals(make_memory(X, Y, limit=5, worth=Worth(2.0, 0.0)), X, Y, size, workers)
    for i, own in enumerate(label_lists(Y)):
        shares = naive.votes(X.toarray(), Y.toarray(), X[i].toarray().ravel(), 5, 1.0)
        voted = [n for n in np.flatnonzero(shares) if n not in own]
        assert len(set(got[i][got[i] >= 0])) == min(size, len(voted))
        kept, least = got[i][got[i] >= 0], np.sort(shares[voted])[-size:].min(initial=1)
        assert set(kept) <= set(voted)
        assert (shares[kept] >= least - 1e-5).all()


def test_among_many_examples_fewer_neighbours_name_the_rivals(monkeypatch):
    X, Y = random_features(N, D, 1), random_labels(N, N_LABELS, 1)
    memory = make_memory(X, Y, limit=5, worth=Worth(2.0, 0.0))
    with Workers(1) as workers:
        of_nearest = find_rivals(memory._replace(limit=2), X, Y, 3, workers)
        monkeypatch.setattr(rivals_module, "_MANY", N)
        monkeypatch.setattr(rivals_module, "_NEAR", 2)
        assert_array_equal(find_rivals(memory, X, Y, 3, workers), of_nearest)


@pytest.mark.nojit
@given(st.integers(0, 50), st.integers(0, 4), st.integers(1, 9))
@settings(deadline=None, max_examples=25)
def test_rivals_by_label_are_the_rivals_by_example(seed, size, n_labels):
    rng = np.random.default_rng(seed)
    parts = [rng.integers(-1, n_labels, (N, size), np.int32) for _ in range(2)]
    turned = by_rival(parts, n_labels)
    both = np.hstack(parts)
    for label in range(n_labels):
        examples = np.sort(turned.neurons[turned.indptr[label] : turned.indptr[label + 1]])
        assert_array_equal(examples, np.nonzero(both == label)[0])


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_threads_do_not_change_a_fit(threads):
    X, Y, _ = clusters(n=300)
    path, rivals = make_wide(X, Y, 1.0)[0], np.full((300, 2), -1, np.int32)
    rivals[:, 0] = np.arange(300) % 40
    one, other = fitted(X, Y, rivals, path), fitted(X, Y, rivals, path, threads)
    assert_array_equal(one.path.weights, other.path.weights)
    assert_array_equal(one.bias, other.bias)


def test_a_second_fit_moves_only_what_its_examples_ask_for():
    X, Y, _ = clusters(n=300)
    path, rivals = make_wide(X, Y, 1.0)[0], np.full((300, 0), -1, np.int32)
    margins = fitted(X, Y, rivals, path)
    weights, bias = margins.path.weights.copy(), margins.bias.copy()
    some = Y.copy()
    some.data[Y.indices > 9] = 0
    some.eliminate_zeros()
    with Workers(1) as workers:
        fit_margins(
            margins, X, some, by_rival([rivals], Y.shape[1]), cost=COST, seed=1, workers=workers
        )
    others = slice(path.indptr[10], None)
    assert_array_equal(margins.path.weights[others], weights[others])
    assert_array_equal(margins.bias[10:], bias[10:])
    assert not np.array_equal(margins.path.weights, weights)


@pytest.mark.parametrize("shape", [(0, 3, 2), (4, 3, 1)])
def test_edge_sizes(shape):
    n, d, n_labels = shape
    X = csr_matrix(np.ones((n, d), np.float32))
    Y = label_matrix([[0]] * n, n_labels) if n else csr_matrix((0, n_labels), dtype=np.uint8)
    path = make_wide(X, Y, 1.0)[0]
    margins = fitted(X, Y, np.full((n, 2), -1, np.int32), path)
    assert np.isfinite(margins.path.weights).all()


@pytest.mark.parametrize("settings", [{"tail": 5}, {"tail": 5, "wide": 0.0}, {"tail": 2000}])
def test_predictions_lose_the_squared_hinges(settings):
    X, Y, _ = clusters(n=400)
    plan = {"epochs": 2, "hidden": [16], "normalize": False, "neighbours": 0, "vote": 0.0}
    model = fit_model(Dataset(X, Y), plan | settings)
    network = model.network
    assert (network.indexes[-1] is None) == (settings["tail"] == 2000)
    got = model.scores(X)
    path, bias = network.margins.path, network.margins.bias
    w = csr_matrix((path.weights, path.features, path.indptr), (Y.shape[1], X.shape[1])).toarray()
    model.network = network._replace(margins=None)
    ref = naive.penalised(model.scores(X), X.toarray(), w, bias, model.config.margin)
    assert_allclose(got, ref, rtol=1e-4, atol=1e-4)
    model.network = network
    hashed = model.predict_topk(X, 1)
    assert_allclose(hashed.scores, np.take_along_axis(ref, hashed.labels, 1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("wide", [0.0, 30.0])
def test_labels_seen_later_get_margins_too(wide):
    X, Y, _ = clusters(n=300)
    plan = {"epochs": 2, "hidden": [16], "tail": 2000, "wide": wide}
    model = fit_model(Dataset(X, Y), plan)
    new_X, new_Y, labels = clusters(n=300, seed=1, first_label=40)
    grown = continue_model(model, Dataset(new_X, new_Y), epochs=3)
    margins = grown.network.margins
    assert len(margins.bias) == 80
    assert (np.diff(margins.path.indptr)[40:] > 0).all()
    assert (grown.predict_topk(new_X, 1).labels[:, 0] == labels).mean() > 0.9


def test_without_strength_there_are_none():
    X, Y, _ = clusters(n=100)
    assert fit_model(Dataset(X, Y), {"epochs": 1, "margin": 0.0}).network.margins is None
