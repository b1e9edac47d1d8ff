import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_matrix

import naive
from batches import random_features, random_labels
from slidelearn import predicting
from slidelearn.config import Config
from slidelearn.cooccurrence import CANDIDATES
from slidelearn.model import Model, prepare_features
from slidelearn.predicting import all_scores, predict_topk
from slidelearn.ranks import NO_RANKS
from slidelearn.training import Trainer
from slidelearn.workers import Workers

N, D, N_LABELS = 150, 20, 40
EVERY_NEURON = {"predict_probes": 4096, "predict_limit": N_LABELS, "cap": N_LABELS, "usual": 0}
EVERY_NEURON |= {"predict_wide_faint": 0.0}
HASHED_HIDDEN = {"family": "simhash", "k": 2, "l": 3, "limit": 5, "cap": 4}


def started(**settings):
    """A network at its start, its settings and examples."""
    X, Y = random_features(N, D), random_labels(N, N_LABELS)
    sizes = {"hidden": [12], "tail": 5, "normalize": False, "neighbours": 0}
    config = Config.from_dict(sizes | settings)
    with Workers(1) as workers:
        return Trainer.start(config, X, Y, workers).network, config, X


def predict(network, X, k, *, exact, threads=1):
    with Workers(threads) as workers:
        return predict_topk(network, X, k, exact=exact, workers=workers)


def scores_of(network, X, threads=1):
    with Workers(threads) as workers:
        return all_scores(network, X, workers)


def oracle_scores(network, X):
    weights = [layer.weight.T.astype(float) for layer in network.hidden]
    weights.append(network.output.weight.astype(float))
    (*_, H), _ = naive.forward(weights, [None] * len(network.hidden), network.mean, X.toarray())
    out = naive.with_bias(H) @ weights[-1].T
    if network.wide is not None:
        for label in range(N_LABELS):
            own = slice(*network.wide.indptr[label : label + 2])
            features = network.wide.features[own]
            out[:, label] += X.toarray()[:, features] @ network.wide.weights[own]
    return out


def equal(a, b):
    return np.array_equal(a.labels, b.labels) and np.array_equal(a.scores, b.scores)


@pytest.mark.nojit
@pytest.mark.parametrize("wide", [0.0, 4.0])
def test_all_scores(wide):
    network, _, X = started(wide=wide)
    X = X[:10]
    assert_allclose(scores_of(network, X), oracle_scores(network, X), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("k", [1, 3, N_LABELS, N_LABELS + 4])
def test_exact_topk(k):
    network, _, X = started()
    top = predict(network, X, k, exact=True)
    scores = scores_of(network, X)
    refs = [naive.top_k(row, k) for row in scores]
    assert_allclose(top.scores, [ref for _, ref in refs], rtol=1e-5, atol=1e-5)
    chosen = np.take_along_axis(scores, np.maximum(top.labels, 0), 1)
    assert_allclose(np.where(top.labels < 0, -np.inf, chosen), top.scores, rtol=1e-5, atol=1e-5)
    assert all(len(set(row[row >= 0])) == min(k, N_LABELS) for row in top.labels)
    assert top.active == N * N_LABELS


@pytest.mark.nojit
@pytest.mark.parametrize("wide", [0.0, 4.0])
def test_blocks_of_labels_and_examples_change_nothing(monkeypatch, wide):
    network, _, X = started(wide=wide)
    whole, scores = predict(network, X, 4, exact=True), scores_of(network, X)
    monkeypatch.setattr(predicting, "_LABELS", 7)
    monkeypatch.setattr(predicting, "_EXAMPLES", 11)
    cut = predict(network, X, 4, exact=True)
    assert_allclose(scores_of(network, X), scores, rtol=1e-4, atol=1e-4)
    assert_allclose(cut.scores, whole.scores, rtol=1e-4, atol=1e-4)
    assert (cut.labels == whole.labels).mean() > 0.99


@pytest.mark.nojit
@pytest.mark.parametrize(
    ("n", "n_entries", "size"),
    [
        (0, 0, 64),
        (1, 20, 64),
        (4000, 80_000, 500),
        (58_466, 1_200_000, 1024),
        (200_000, 0, 1024),
        (200_000, 60_000_000, 109),
        (200_000, 2**40, 64),
    ],
)
def test_pieces_of_a_search_are_as_large_as_what_they_hold_allows(n, n_entries, size):
    assert predicting._piece(n, n_entries) == size


@pytest.mark.nojit
def test_pieces_of_a_search_change_nothing(monkeypatch):
    network, _, X = started(wide=4.0)
    whole = predict(network, X, 4, exact=False)
    for size in (1, 7, 10_000):
        monkeypatch.setattr(predicting, "_piece", lambda n, n_entries, size=size: size)
        cut = predict(network, X, 4, exact=False)
        assert_array_equal(cut.labels, whole.labels)
        assert_array_equal(cut.scores, whole.scores)


@pytest.mark.nojit
def test_ranks_of_long_lists_change_nothing():
    network, _, X = started(wide=4.0)
    assert len(network.ranks.rows)
    with_ranks, without = (
        predict(net, X, 5, exact=False) for net in (network, network._replace(ranks=NO_RANKS))
    )
    assert equal(with_ranks, without)


@pytest.mark.nojit
@pytest.mark.parametrize("exact", [True, False])
def test_equal_scores_come_in_order_of_their_ids(exact):
    network, _, X = started(wide=0, tables={"family": "simhash", "k": 2} | EVERY_NEURON)
    network.output.weight[:] = network.output.weight[:3].repeat(14, axis=0)[:N_LABELS]
    X = X[:8]
    top = predict(network, X, 20, exact=exact)
    for i, scores in enumerate(scores_of(network, X)):
        ref, _ = naive.top_k(np.round(scores, 3), 20)
        assert top.labels[i].tolist() == ref.tolist()


@pytest.mark.parametrize("family", ["simhash", "centroids"])
@pytest.mark.parametrize("strategy", ["vanilla", "topk"])
def test_hashed_prediction_is_exact_where_every_neuron_is_retrieved(family, strategy):
    tables = {"family": family, "k": 2, "l": 2, "strategy": strategy} | EVERY_NEURON
    network, _, X = started(tables=tables)
    exact, hashed = (predict(network, X, 5, exact=exact) for exact in (True, False))
    assert_allclose(hashed.scores, exact.scores, rtol=1e-4, atol=1e-4)
    assert (hashed.labels == exact.labels).mean() > 0.99
    assert hashed.active == exact.active


def test_hashed_prediction_gives_the_best_of_what_was_retrieved():
    tables = {"family": "simhash", "k": 3, "l": 1, "predict_probes": 1, "predict_limit": 6}
    network, _, X = started(tables=tables, wide=0)
    top, scores = predict(network, X, 8, exact=False), scores_of(network, X)
    assert (top.labels[:, 6:] == -1).all()
    assert np.isneginf(top.scores[top.labels < 0]).all()
    assert top.active == (top.labels >= 0).sum() < N * 6
    chosen = np.take_along_axis(scores, np.maximum(top.labels, 0), 1)
    found = top.labels >= 0
    assert_allclose(top.scores[found], chosen[found], rtol=1e-4, atol=1e-4)
    ordered = np.where(found, top.scores, -1e9)
    assert (np.diff(ordered, axis=1) <= 0).all()


def test_the_wide_path_finds_labels_that_the_tables_do_not():
    tables = {"family": "simhash", "k": 3, "l": 1, "predict_probes": 1, "predict_limit": 1}
    network, _, X = started(tables=tables | {"predict_wide_limit": 4})
    top, scores = predict(network, X, 8, exact=False), scores_of(network, X)
    n_found = (top.labels >= 0).sum(axis=1)
    assert 3 < n_found.max() <= 5
    assert top.active == n_found.sum()
    found = top.labels >= 0
    chosen = np.take_along_axis(scores, np.maximum(top.labels, 0), 1)
    assert_allclose(top.scores[found], chosen[found], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("hidden_tables", [None, HASHED_HIDDEN], ids=["dense", "hashed"])
def test_the_tables_are_asked_where_the_wide_path_finds_few(hidden_tables):
    tables = EVERY_NEURON | {"predict_limit": 6, "predict_wide_limit": 8}
    network, _, X = started(tables=tables, hidden_tables=hidden_tables)
    some = (np.arange(N) % 3 != 1).astype(np.float32)
    X = csr_matrix(X.multiply(some[:, None]))  # the wide path knows nothing of the others
    X.eliminate_zeros()
    n_found = (predict(network, X, 8, exact=False).labels >= 0).sum(axis=1)
    assert set(n_found[1::3]) == {6}
    without = network._replace(postings=None)
    top, alone = predict(network, X, 6, exact=False), predict(without, X, 6, exact=False)
    assert np.array_equal(top.labels[1::3], alone.labels[1::3])
    assert not np.array_equal(top.labels, alone.labels)


@pytest.mark.parametrize("exact", [True, False])
def test_the_memory_votes(exact):
    """Retrieval finds next to nothing, so what it misses the votes must bring."""
    tables = {"family": "simhash", "k": 3, "l": 1, "predict_probes": 1, "predict_limit": 1}
    options = {"tables": tables, "wide": 0, "neighbours": 3, "vote": 20, "cooccurrence": 0}
    network, _, X = started(**options)
    Y = random_labels(N, N_LABELS)
    plain = scores_of(network._replace(memory=None), X)
    ref = plain + [naive.votes(X.toarray(), Y.toarray(), x.toarray().ravel(), 3, 20.0) for x in X]
    assert_allclose(scores_of(network, X), ref, rtol=1e-3, atol=1e-3)
    top = predict(network, X, 1, exact=exact)
    assert (top.labels[:, 0] == ref.argmax(axis=1)).mean() > (0.99 if exact else 0.9)
    found = np.take_along_axis(ref, top.labels, 1)
    assert_allclose(top.scores, found, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("exact", [True, False])
def test_votes_of_twins_count_against_their_labels(exact):
    """Every example is its own nearest here."""
    options = {"tables": EVERY_NEURON, "neighbours": 3, "vote": 2.0, "twin": 9.0, "cooccurrence": 0}
    network, _, X = started(**options)
    Y = random_labels(N, N_LABELS)
    plain = scores_of(network._replace(memory=None), X)
    rows = X.toarray()
    votes = np.array([naive.votes(rows, Y.toarray(), x, 3, 2.0, 9.0) for x in rows])
    assert votes.min() < -5
    top = predict(network, X, N_LABELS, exact=exact)
    placed = np.take_along_axis(plain + votes, top.labels, 1)
    assert_allclose(top.scores, placed, rtol=1e-3, atol=1e-3)
    assert_allclose(scores_of(network, X), plain + votes, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("exact", [True, False])
def test_the_best_labels_gain_by_their_company(exact):
    options = {"tables": EVERY_NEURON, "neighbours": 3, "cooccurrence": 2.0}
    network, _, X = started(**options)
    nobody = network.memory.cooccurrence._replace(strength=0.0)
    alone = network._replace(memory=network.memory._replace(cooccurrence=nobody))
    shares = naive.cooccurrence(random_labels(N, N_LABELS).toarray(), 20)
    ref = scores_of(alone, X)
    for row in ref:
        best = np.argsort(-row, kind="stable")[:CANDIDATES]
        row[best] = naive.company_scores(row[best], shares[np.ix_(best, best)], 2.0)
    assert_allclose(scores_of(network, X), ref, rtol=1e-3, atol=1e-3)
    for k in (1, 5, 30):
        top = predict(network, X, k, exact=exact)
        expected = -np.sort(-ref, axis=1)[:, :k]
        assert (top.labels[:, 0] == ref.argmax(axis=1)).mean() > 0.99
        assert_allclose(top.scores[:, :5], expected[:, :5], rtol=1e-3, atol=1e-3)
        assert top.labels.shape == (N, k)
    assert not equal(predict(network, X, 5, exact=exact), predict(alone, X, 5, exact=exact))


def test_a_network_without_tables_is_always_scored_in_full():
    network, _, X = started(tail=N_LABELS)
    assert network.indexes[-1] is None
    assert equal(predict(network, X, 3, exact=False), predict(network, X, 3, exact=True))


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("hidden_tables", [None, HASHED_HIDDEN], ids=["dense", "hashed"])
def test_threads_do_not_change_predictions(exact, hidden_tables):
    network, _, X = started(hidden_tables=hidden_tables)
    first = predict(network, X, 3, exact=exact)
    for threads in (2, 7):
        assert equal(first, predict(network, X, 3, exact=exact, threads=threads))


def test_scores_and_exact_predictions_agree_on_a_hashed_hidden_layer():
    network, _, X = started(hidden_tables=HASHED_HIDDEN, wide=0)
    top, scores = predict(network, X, 1, exact=True), scores_of(network, X)
    assert_allclose(top.scores[:, 0], scores.max(axis=1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("wide", [0.0, 4.0])
def test_what_is_predicted_does_not_depend_on_the_other_examples(exact, wide):
    """Nor do the windows of buckets over the cap."""
    few = {"predict_limit": 6, "cap": 3}
    network, _, X = started(hidden_tables=HASHED_HIDDEN | {"cap": 2}, tables=few, wide=wide)
    whole = predict(network, X, 3, exact=exact)
    order = np.random.default_rng(0).permutation(N)
    other = predict(network, X[order], 3, exact=exact)
    assert np.array_equal(other.labels, whole.labels[order])
    assert_allclose(other.scores, whole.scores[order], rtol=1e-4, atol=1e-4)
    assert network.indexes[0].truncated > 0


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("n", [0, 1])
def test_few_examples(exact, n):
    network, _, X = started()
    top = predict(network, X[2 : 2 + n], 3, exact=exact)
    assert top.labels.shape == top.scores.shape == (n, 3)
    if n:
        whole = predict(network, X, 3, exact=exact)
        assert_allclose(top.scores[0], whole.scores[2], rtol=1e-4, atol=1e-4)


def test_a_model_scales_features_as_in_training():
    network, _, X = started()
    config = Config(normalize=True, threads=1)
    model = Model(config, network, None, None, np.ones(N_LABELS))
    lengths = np.linalg.norm(X.toarray(), axis=1, keepdims=True)
    scaled = np.divide(X.toarray(), lengths, out=np.zeros((N, D)), where=lengths > 0)
    before = X.copy()
    assert_allclose(prepare_features(X, config).toarray(), scaled, rtol=1e-5, atol=1e-6)
    assert_allclose(model.scores(X), scores_of(network, prepare_features(X, config)), rtol=1e-6)
    assert equal(
        model.predict_topk(X, 2), predict(network, prepare_features(X, config), 2, exact=False)
    )
    assert (before != X).nnz == 0
    assert prepare_features(X, Config(normalize=False)) is X
