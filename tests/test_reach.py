"""A recall that somebody asks for, and how far the search then goes."""

import numpy as np
import pytest

from problems import clusters
from slidelearn.datasets import Dataset
from slidelearn.errors import ConfigError, ModelError
from slidelearn.fitting import continue_model, fit_model
from slidelearn.metrics import recall_at_k
from slidelearn.model_file import load_model, save_model
from slidelearn.reach import Reach, choose_scale
from slidelearn.validation import SAMPLE

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
    scales = [reach.scale for reach in model.reaches]
    found = [reach.recall for reach in model.reaches]
    assert scales == sorted(scales)
    assert scales[0] < 1 < scales[-1]
    assert (np.diff(found) >= -0.02).all()
    assert found[-1] > found[0] + 0.05
    assert all(abs(reach.recall - reach.checked) < 0.1 for reach in model.reaches)


def test_a_model_finds_what_it_is_asked_for(model):
    X, _, _ = clusters(seed=1)
    exact = model.predict_topk(X, 5, exact=True)
    before = 0
    for recall in (0.5, 0.9, 0.99):
        scale = model.scale_for(recall)
        top = model.predict_topk(X, 5, recall=recall)
        assert recall_at_k(top.labels, exact.labels, 5) > recall - 0.1
        assert top.active >= before
        before = top.active
        if scale == 1:
            np.testing.assert_array_equal(top.labels, model.predict_topk(X, 5).labels)


def test_where_logits_alone_decide_a_search_goes_far_enough_unless_somebody_says_otherwise(model):
    X, _, _ = clusters(seed=1)
    assert model.usual_scale == 1
    alone = trained(wide=0, neighbours=0)
    assert alone.network.postings is None
    assert alone.usual_scale == alone.scale_for(0.99)
    alone.facts["reaches"] = [[0.25, 0.9, 0.9], [2.0, 0.992, 0.98], [4.0, 1.0, 1.0]]
    assert alone.usual_scale == 2
    top, asked = alone.predict_topk(X, 5), alone.predict_topk(X, 5, recall=0.99)
    np.testing.assert_array_equal(top.labels, asked.labels)
    alone.facts["reaches"] = alone.facts["reaches"][:1]
    assert alone.usual_scale == 0.25
    alone.facts["reaches"] = []
    assert alone.usual_scale == 1


def test_where_no_search_finds_enough_every_neuron_is_scored():
    X, _, _ = clusters(seed=1)
    few = trained()
    few.facts["reaches"] = [[0.25, 0.5, 0.5]]
    assert few.scale_for(0.6) is None
    top, exact = few.predict_topk(X, 5, recall=0.6), few.predict_topk(X, 5, exact=True)
    np.testing.assert_array_equal(top.labels, exact.labels)
    assert top.active == exact.active
    whole = trained(tail=1000, wide=0)
    assert whole.reaches == []
    assert whole.scale_for(0.9) is None


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
        model.scale_for(recall)


def test_reaches_are_saved_and_checked(model, tmp_path):
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.reaches == model.reaches
    loaded.facts["reaches"] = [["far"]]
    with pytest.raises(ModelError, match="are damaged"):
        loaded.scale_for(0.9)
    loaded.facts.pop("reaches")
    with pytest.raises(ConfigError, match="was not measured"):
        loaded.scale_for(0.9)


def test_the_least_scale_that_is_enough():
    reaches = [Reach(0.5, 0.7, 0.99), Reach(1, 0.9, 0.9), Reach(2, 0.9, 0.95)]
    assert choose_scale(reaches, 0.7) == 0.5
    assert choose_scale(reaches, 0.71) == 1
    assert choose_scale(reaches, 0.91) is None
    assert choose_scale([], 0.5) is None
