from itertools import product

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from problems import clusters
from slidelearn import calibration
from slidelearn.calibration import Strengths, choose_strengths, hold_out, with_strengths
from slidelearn.cooccurrence import count_cooccurrence
from slidelearn.datasets import Dataset
from slidelearn.fitting import continue_model, fit_model
from slidelearn.memory import Worth, find_votes, room_for_votes
from slidelearn.metrics import report
from slidelearn.model_file import load_model, save_model
from slidelearn.predicting import predict_topk
from slidelearn.rows import sparse_rows
from slidelearn.workers import Workers

PLAN = {"epochs": 1, "hidden": [16], "tail": 5, "calibration": 60}


@pytest.fixture(scope="module")
def problem():
    X, Y, _ = clusters(n=600)
    return Dataset(X, Y)


@pytest.fixture(scope="module")
def model(problem):
    return fit_model(problem, PLAN)


@pytest.mark.parametrize(("n", "size", "held"), [(10, 3, 3), (10, 9, 5), (1, 4, 0), (0, 2, 0)])
def test_no_more_than_half_is_held_out(n, size, held):
    marks = hold_out(n, size, seed=1)
    assert marks.shape == (n,)
    assert marks.sum() == held
    assert np.array_equal(marks, hold_out(n, size, seed=1))


def precision(network, X, Y, workers):
    scores = report(predict_topk(network, X, 5, exact=False, workers=workers).labels, Y,
                    np.ones(Y.shape[1]))  # fmt: skip
    return scores["p@1"] + scores["p@3"] + scores["p@5"]


def tried(network, strengths, counts):
    """The network with some strengths; its own arrays stay as they are."""
    weight = network.output.weight.copy()
    return with_strengths(
        network._replace(output=network.output._replace(weight=weight)), strengths, counts
    )


def disturbed(network):
    """The network with margins and votes that are often wrong."""
    rng, margins, memory = np.random.default_rng(0), network.margins, network.memory
    bias = margins.bias + rng.standard_normal(len(margins.bias)).astype(np.float32)
    labels = memory.labels._replace(neurons=np.roll(memory.labels.neurons, 50))
    return network._replace(
        margins=margins._replace(bias=bias), memory=memory._replace(labels=labels)
    )


@pytest.mark.parametrize("threads", [1, 3])
def test_the_choice_is_the_best_of_all_predictions(problem, model, monkeypatch, threads):
    votes, margins, frequencies = (0.5, 6.0), (0.25, 1.0, 40.0), (0.0, 6.0, -3.0)
    monkeypatch.setattr(calibration, "_VOTES", votes)
    monkeypatch.setattr(calibration, "_MARGINS", margins)
    monkeypatch.setattr(calibration, "TWINS", (0.0, 9.0))
    monkeypatch.setattr(calibration, "_FREQUENCIES", frequencies)
    monkeypatch.setattr(calibration, "_COOCCURRENCES", (0.0, 5.0))
    network, X, Y = disturbed(model.network), problem.X[:150], problem.Y[:150]
    together = count_cooccurrence(csr_matrix(np.eye(40) + np.eye(40, k=1)), 0.7)
    network = network._replace(memory=network.memory._replace(cooccurrence=together))
    counts = np.random.default_rng(1).integers(0, 50, Y.shape[1])
    present = network.memory.worth.vote, network.margins.strength
    pairs = [present, *product(votes, margins)]
    with Workers(threads) as workers:
        chosen = choose_strengths(network, counts, X, Y, workers)
        for choices in (
            [Strengths(vote, 0.0, margin, 0.0, 0.0) for vote, margin in pairs],
            [chosen._replace(twin=t, frequency=0.0, cooccurrence=0.0) for t in (0.0, 9.0)],
            [chosen._replace(frequency=f, cooccurrence=0.0) for f in frequencies],
            [chosen._replace(cooccurrence=strength) for strength in (0.7, 0.0, 5.0)],
        ):
            sums = [precision(tried(network, c, counts), X, Y, workers) for c in choices]
            best = choices[int(np.argmax(sums))]
            assert all(
                one == other
                for name, one, other in zip(best._fields, best, chosen, strict=True)
                if len({getattr(choice, name) for choice in choices}) > 1
            )
            assert len({round(value, 3) for value in sums}) > 1


def test_the_strengths_stay_where_nothing_tells_them_apart(problem, model):
    nothing = csr_matrix(problem.Y.shape, dtype=problem.Y.dtype)
    network = model.network._replace(memory=model.network.memory._replace(worth=Worth(2.5, 0.7)))
    counts = np.ones(nothing.shape[1], np.int64)
    with Workers(1) as workers:
        chosen = choose_strengths(network, counts, problem.X, nothing, workers)
    assert chosen == (2.5, 0.7, network.margins.strength, 0.0, 0.0)


def test_a_fit_chooses_strengths_and_remembers_every_example(problem, model, tmp_path):
    network = model.network
    assert len(network.memory.labels.indptr) - 1 == 600
    assert network.memory.worth == (model.config.vote, model.config.twin)
    assert network.margins.strength == model.config.margin
    assert model.facts["n_examples"] == 600
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    top, other = (m.predict_topk(problem.X, 5) for m in (model, again))
    assert np.array_equal(top.labels, other.labels)
    assert np.array_equal(top.scores, other.scores)


def test_what_is_held_out_trains_nothing(problem):
    held = hold_out(600, 60, seed=0)
    plain = fit_model(problem._replace(X=problem.X[~held], Y=problem.Y[~held]),
                      PLAN | {"calibration": 0})  # fmt: skip
    calibrated = fit_model(problem, PLAN)
    weights = [model.network.output.weight for model in (calibrated, plain)]
    assert np.array_equal(weights[0][:, :-1], weights[1][:, :-1])
    assert np.array_equal(
        calibrated.network.margins.path.weights, plain.network.margins.path.weights
    )


@pytest.mark.parametrize("settings", [{"neighbours": 0}, {"margin": 0.0}, {"tail": 2000}])
def test_nothing_is_held_out_where_nothing_is_chosen(problem, settings):
    held, whole = (fit_model(problem, PLAN | settings | size) for size in ({}, {"calibration": 0}))
    assert np.array_equal(held.network.output.weight, whole.network.output.weight)


def test_a_label_that_only_held_out_examples_have_may_be_voted_for(problem):
    held = np.flatnonzero(hold_out(600, 60, seed=0))[0]
    Y = np.hstack([problem.Y.toarray(), np.zeros((600, 1), np.uint8)])
    Y[held] = 0
    Y[held, -1] = 1
    network = fit_model(Dataset(problem.X, csr_matrix(Y)), PLAN | {"neighbours": 1}).network
    votes = find_votes(network.memory, sparse_rows(problem.X[held]), room_for_votes(network.memory))
    assert votes.pairs.neurons.tolist() == [Y.shape[1] - 1]


@pytest.mark.parametrize("settings", [{"neighbours": 0}, {"margin": 0.0}, {"tail": 2000}])
def test_without_votes_or_margins_or_tables_nothing_is_chosen(problem, settings):
    model = fit_model(problem, PLAN | settings)
    given = {"vote": 1.5, "margin": 1.0} | settings
    assert (model.config.vote, model.config.margin) == (given["vote"], given["margin"])
    if "tail" in settings:
        assert len(model.network.memory.labels.indptr) - 1 == 600


def test_more_examples_keep_the_strengths(problem):
    model = fit_model(problem, PLAN)
    chosen = (model.config.vote, model.config.twin), model.config.margin
    more = continue_model(model, problem, epochs=1)
    assert (more.network.memory.worth, more.network.margins.strength) == chosen
    assert len(more.network.memory.labels.indptr) - 1 == 1200


def test_company_is_kept_in_the_model_and_grows_with_it(problem, tmp_path):
    Y = csr_matrix(problem.Y + np.roll(problem.Y.toarray(), 1, axis=1)).astype(np.uint8)
    data = Dataset(problem.X, Y)
    model = fit_model(data, PLAN | {"calibration": 0, "cooccurrence": 0.3})
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    for one in (model, again):
        assert one.network.memory.cooccurrence.strength == 0.3
    assert np.array_equal(*(m.predict_topk(problem.X, 5).scores for m in (model, again)))
    more = continue_model(again, data, epochs=1).network.memory.cooccurrence
    assert more.strength == 0.3
    before = model.network.memory.cooccurrence
    assert np.array_equal(more.partners.neurons, before.partners.neurons)
    assert (more.shares > before.shares).all()  # twice the examples: less doubt
