"""A recall that somebody asks for, and how far the search then goes."""

import numpy as np
import pytest

from problems import clusters
from slidelearn.datasets import Dataset
from slidelearn.errors import ConfigError, ModelError
from slidelearn.fitting import continue_model, fit_model
from slidelearn.metrics import recall_at_k
from slidelearn.model_file import load_model, save_model
from slidelearn.predicting import predict_topk
from slidelearn.reach import DEEPEST, Reach, choose_reach, measure_reaches, reaches_for
from slidelearn.searching import _scaled_lookup
from slidelearn.validation import SAMPLE
from slidelearn.workers import Workers

# So little is found by default that there is something to search for.
TABLES = {"predict_wide_limit": 8, "predict_limit": 4, "predict_logits": 8, "predict_scores": 6}
QUICK = {"hidden": [24], "tail": 10, "wide": 10.0, "epochs": 1, "batch_size": 64, "threads": 1}


def trained(**changes):
    X, Y, _ = clusters()
    return fit_model(Dataset(X, Y), QUICK | {"tables": TABLES, "neighbours": 5} | changes)


@pytest.fixture(scope="module")
def model():
    return trained()


def test_searches_that_go_further_find_more(model):
    for k in (5, 20):
        reaches = reaches_for(model.reaches, k)
        assert {reach.k for reach in reaches} == {k}
        scales = [reach.scale for reach in reaches]
        found = [reach.recall for reach in reaches]
        assert scales == sorted(scales)
        assert scales[0] < 1 < scales[-1]
        assert (np.diff(found) >= -0.02).all()
        assert found[-1] > found[0] + 0.05
        assert all(abs(reach.recall - reach.checked) < 0.1 for reach in reaches)


def test_what_the_furthest_search_finds_of_few_tells_what_others_find_of_many(model):
    network, n = model.network, 400
    X = model.prepare(clusters(seed=2)[0][:n])
    with Workers(1) as workers:
        exact = predict_topk(network, X, DEEPEST, exact=True, workers=workers).labels
        few = measure_reaches(network, X, exact[:40], workers)
        many = measure_reaches(network, X, exact, workers)
        for reach in few:
            k = reach.k
            top = predict_topk(network, X, k, exact=False, workers=workers, scale=reach.scale)
            shown = slice(max(40, n * 5 // k))
            found = recall_at_k(top.labels[shown], exact[shown], k)
            assert abs((reach.recall + reach.checked) / 2 - found) < 0.03
    assert [reach[::3] for reach in many][:7] == [reach[::3] for reach in few][:7]


def test_a_model_finds_what_it_is_asked_for(model):
    X, _, _ = clusters(seed=1)
    exact = model.predict_topk(X, 5, exact=True)
    before = 0
    for recall in (0.5, 0.9, 0.99):
        top = model.predict_topk(X, 5, recall=recall)
        assert recall_at_k(top.labels, exact.labels, 5) > recall - 0.1
        assert top.active >= before
        before = top.active


@pytest.mark.parametrize("changes", [{}, {"wide": 0, "neighbours": 0}])
def test_a_search_goes_far_enough_for_99_of_100_unless_somebody_says_otherwise(changes):
    X, _, _ = clusters(seed=1)
    model = trained(**changes)
    assert (model.network.postings is None) == bool(changes)
    asked = model.reach_for(0.99) or reaches_for(model.reaches, 5)[-1]
    assert model.usual_scale(5) == asked.scale
    model.facts["reaches"] = [[0.25, 0.9, 0.9], [2.0, 0.992, 0.98], [4.0, 1.0, 1.0]]
    assert model.usual_scale(5) == pytest.approx(2)
    assert model.usual_scale(50) == pytest.approx(5)
    model.facts["reaches"].append([8.0, 1.0, 1.0, 20])
    assert [model.usual_scale(k) for k in (6, 20, 50)] == [8, 8, 20]
    top, asked = model.predict_topk(X, 5), model.predict_topk(X, 5, recall=0.99)
    np.testing.assert_array_equal(top.labels, asked.labels)
    model.facts["reaches"] = model.facts["reaches"][:1]
    assert model.usual_scale(5) == 0.25
    model.facts["reaches"] = []
    assert [model.usual_scale(k) for k in (5, 30)] == [1, 1.5]


def test_what_hash_functions_find_is_as_much_as_the_settings_say():
    tables = TABLES | {"family": "simhash", "k": 2, "l": 4}
    model = trained(wide=0, neighbours=0, tables=tables)
    assert model.reaches
    assert [model.usual_scale(k) for k in (5, 40)] == [1, 2]


def test_between_two_that_were_measured_a_search_goes_as_far_as_it_must():
    reaches = [Reach(1.0, 0.9, 0.8), Reach(2.0, 0.92, 0.9), Reach(8.0, 1.0, 0.98, 5)]
    assert choose_reach(reaches, 0.95).scale == pytest.approx(4)  # for 0.96, in the middle
    assert choose_reach(reaches, 0.95)[1:] == (0.96, 0.94, 5)
    assert choose_reach(reaches, 0.875) is reaches[0]
    assert choose_reach(reaches, 1.0) == reaches[2]
    assert choose_reach(reaches[::2], 1.0).scale == 8


@pytest.mark.parametrize(("width", "kept"), [(64, [4, 7, 17]), (24, [4, 32, 80])])
def test_where_there_are_sketches_a_search_that_goes_further_keeps_few_more(width, kept):
    index = trained(wide=0, neighbours=0, hidden=[width]).network.indexes[-1]
    assert index.ranked
    assert (index.sketches is not None) == (width >= 64)
    sizes = [_scaled_lookup(index, scale, k) for scale, k in ((1, 2), (8, 2), (8, 5))]
    assert [size.limit for size in sizes] == kept
    assert sizes[1].reach > sizes[0].reach


def test_where_no_search_finds_enough_every_neuron_is_scored():
    X, _, _ = clusters(seed=1)
    few = trained()
    few.facts["reaches"] = [[0.25, 0.5, 0.5]]
    assert few.reach_for(0.6) is few.reach_for(0.3, k=6) is None
    assert few.reach_for(0.3) == Reach(0.25, 0.5, 0.5, 5)
    top, exact = few.predict_topk(X, 5, recall=0.6), few.predict_topk(X, 5, exact=True)
    np.testing.assert_array_equal(top.labels, exact.labels)
    assert top.active == exact.active
    whole = trained(tail=1000, wide=0)
    assert whole.reaches == []
    assert whole.reach_for(0.9) is None


def test_a_model_that_grows_is_measured_again_once_it_has_grown_by_a_tenth():
    X, Y, _ = clusters()
    model, n = trained(), X.shape[0]
    assert n >= SAMPLE
    reaches = model.reaches
    model = continue_model(model, Dataset(X[:5], Y[:5]), epochs=1)
    assert model.reaches == reaches
    assert (model.facts["n_examples"], model.facts["n_measured"]) == (n + 5, n)
    model = continue_model(model, Dataset(X, Y), epochs=1)
    assert model.facts["n_measured"] == model.facts["n_examples"] == 2 * n + 5
    assert model.reaches != reaches


def test_an_older_model_that_was_never_measured_is_when_it_goes_on():
    X, Y, _ = clusters()
    model = trained()
    del model.facts["n_measured"], model.facts["reaches"]
    model = continue_model(model, Dataset(X[:SAMPLE], Y[:SAMPLE]), epochs=1)
    assert model.reaches


@pytest.mark.parametrize("recall", [0, -0.5, 1.01, float("nan")])
def test_what_is_no_recall(model, recall):
    with pytest.raises(ConfigError, match="ask for a share above 0"):
        model.reach_for(recall)


def test_reaches_are_saved_and_checked(model, tmp_path):
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.reaches == model.reaches
    loaded.facts["reaches"] = [["far"]]
    with pytest.raises(ModelError, match="are damaged"):
        loaded.reach_for(0.9)
    loaded.facts.pop("reaches")
    with pytest.raises(ConfigError, match="was not measured"):
        loaded.reach_for(0.9)


def test_the_least_scale_that_is_enough():
    reaches = [Reach(0.5, 0.7, 0.99), Reach(1, 0.9, 0.9), Reach(2, 0.9, 0.95)]
    assert choose_reach(reaches, 0.6) == reaches[0]
    chosen = choose_reach(reaches, 0.7)
    assert chosen.recall == 0.76  # 0.7 of a sample may be less of others
    assert 0.5 < chosen.scale < 1
    assert choose_reach(reaches, 0.9) is None
    assert choose_reach([], 0.5) is None
