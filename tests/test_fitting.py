"""The path from data to a model: what is learned, recorded and refused, and how it may end."""

import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba.core.registry import CPUDispatcher
from scipy.sparse import csr_matrix

import naive_metrics
from models import assert_same_arrays
from problems import clusters
from slidelearn import validation
from slidelearn.compiling import compile_kernels
from slidelearn.config import Config
from slidelearn.datasets import Dataset
from slidelearn.errors import ConfigError, DataError, SlideError
from slidelearn.fitting import FitEvents, continue_model, fit_model
from slidelearn.growing import _join_wide
from slidelearn.network import with_postings
from slidelearn.predicting import predict_topk
from slidelearn.rules import choose_config
from slidelearn.training import Trainer
from slidelearn.wide import make_wide
from slidelearn.workers import Workers

QUICK = {
    "hidden": [32],
    "tail": 10,
    "wide": 10.0,
    "epochs": 3,
    "batch_size": 64,
    "dropout": 0.1,
    "threads": 1,
}
SIMHASH = {"family": "simhash", "k": 3, "l": 4}


def dataset(**options):
    X, Y, _ = clusters(**options)
    return Dataset(X, Y)


UNCOUNTED = ("slidelearn.metrics", "slidelearn.csr")


def count_kernels():
    """Compiled signatures of every kernel of the package but metrics and the check of the data."""
    return {
        f"{name}.{kernel.__name__}": len(kernel.signatures)
        for name, module in list(sys.modules.items())
        if name.startswith("slidelearn.") and name not in UNCOUNTED
        for kernel in vars(module).values()
        if isinstance(kernel, CPUDispatcher)
    }


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tail": 1000, "wide": 0, "start": "random"},
        {"wide": 0},
        {"hidden": [32, 16], "hidden_tables": SIMHASH, "optimizer": "adam", "loss": "bce"},
    ],
)
def test_compilation_leaves_no_kernel_for_training(changes):
    data, changes = dataset(), QUICK | changes
    compile_kernels(choose_config(data.X, data.Y, changes), data.X.shape[1], data.Y.shape[1])
    before = count_kernels()
    fit_model(data, changes, events=FitEvents(on_epoch=lambda record: None))
    assert count_kernels() == before


def test_compilation_happens_once():
    config = Config(hidden=(20,), tail=3)
    compile_kernels(config, 10, 5)
    assert compile_kernels(config, 10, 5) == 0.0


def test_records_of_every_epoch():
    records, progress = [], []
    data, valid = dataset(), dataset(n=100, seed=1)
    events = FitEvents(progress.append, records.append)
    model = fit_model(data, QUICK, valid=valid, events=events)
    assert [record["epoch"] for record in records] == [1, 2, 3]
    seconds = [record["train_seconds"] for record in records]
    assert seconds == sorted(seconds)
    assert model.facts["train_seconds"] == seconds[-1]
    assert len(progress) == 3 * 7
    top = model.predict_topk(valid.X, 5, exact=True).labels
    expected = naive_metrics.precision_at_k(top, valid.Y.toarray(), 1)
    last = records[-1]
    assert last["p@1"] == pytest.approx(100 * expected)
    assert last["p@1"] > 90
    assert {"p@3", "p@5", "psp@1", "psp@3", "psp@5"} <= last.keys()
    with Workers(1) as workers:
        ready = model.prepare(valid.X)
        found = predict_topk(model.network, ready, 5, exact=False, workers=workers).labels
    assert last["recall@5"] == pytest.approx(naive_metrics.recall_at_k(found, top, 5))
    assert last["active_share"][0] == 1
    assert 0 < last["active_share"][1] <= 1
    assert all(type(v) in (int, float, list) for v in last.values())


def test_a_validation_that_would_take_too_long_scores_a_sample(monkeypatch):
    monkeypatch.setattr(validation, "_SCORES", 300 * dataset().Y.shape[1])
    records = []
    valid = dataset(n=320, seed=1)
    fit_model(dataset(), QUICK, valid=valid, events=FitEvents(on_epoch=records.append))
    assert [record["n_valid"] for record in records] == [300] * len(records)


def test_recall_needs_no_validation_data_but_tables():
    records = []
    fit_model(dataset(), QUICK, events=FitEvents(on_epoch=records.append))
    assert 0 < records[0]["recall@5"] <= 1
    fit_model(dataset(), QUICK | {"tail": 100}, events=FitEvents(on_epoch=records.append))
    assert "recall@5" not in records[-1]


@pytest.mark.parametrize(("limit", "wide"), [(0, 0.0), (4, 10.0)])
def test_tables_that_training_does_not_look_into_are_made_after_every_epoch(limit, wide):
    tables = {"limit": limit, "rebuild_every": 3}
    records, settings_ = [], QUICK | {"tables": tables, "wide": wide}
    model = fit_model(dataset(), settings_, events=FitEvents(on_epoch=records.append))
    assert len(records) == 3
    assert min(record["recall@5"] for record in records) > 0.5
    index = model.network.indexes[-1]
    assert index.trains == (limit > 0)
    fresh = index.family.codes(index._hashable(model.network.output.weight))
    assert np.array_equal(index.tables.codes, fresh)


def test_same_model_whatever_the_threads():
    one, two = (fit_model(dataset(), QUICK | {"threads": n}) for n in (1, 2))
    np.testing.assert_array_equal(one.network.output.weight, two.network.output.weight)
    np.testing.assert_array_equal(one.network.wide.weights, two.network.wide.weights)


def test_a_caller_may_stop():
    asked, records = [], []

    def should_stop():
        asked.append(1)
        return len(asked) == 9

    model = fit_model(
        dataset(), QUICK, events=FitEvents(on_epoch=records.append, should_stop=should_stop)
    )
    assert (model.facts["steps"], model.facts["epochs"], len(records)) == (9, 2, 2)
    assert not model.facts["interrupted"]


def test_a_time_limit_ends_after_the_step_that_exceeds_it():
    model = fit_model(dataset(), QUICK, time_limit=1e-9)
    assert model.facts["steps"] == 1
    assert not model.facts["interrupted"]


def test_the_learning_rate_knows_the_time_limit():
    data = dataset()
    start = fit_model(data, QUICK | {"lr": 0.0, "hidden_lr": 0.0, "wide_lr": 0.0, "prior_lr": 0.0})
    late = fit_model(data, QUICK | {"lr_end": 0.0}, time_limit=1e-9)
    np.testing.assert_array_equal(start.network.output.weight, late.network.output.weight)


def test_ctrl_c_leaves_the_model_so_far():
    def interrupt(progress):
        if progress.epoch == 2 and progress.done >= 128:
            raise KeyboardInterrupt

    data = dataset()
    model = fit_model(data, QUICK, events=FitEvents(on_progress=interrupt))
    assert model.facts["interrupted"]
    assert (model.facts["epochs"], model.facts["steps"]) == (1, 9)
    top = model.predict_topk(data.X, 1, exact=True).labels
    assert naive_metrics.precision_at_k(top, data.Y.toarray(), 1) > 0.8


def test_ctrl_c_between_epochs_leaves_the_model_too():
    def interrupt(record):
        raise KeyboardInterrupt

    model = fit_model(dataset(), QUICK, events=FitEvents(on_epoch=interrupt))
    assert model.facts["interrupted"]
    assert (model.facts["epochs"], model.facts["steps"]) == (1, 7)


def test_an_interrupt_while_margins_are_fitted_ends_them(monkeypatch):
    asked, fit_margins = [], Trainer.fit_margins

    def fit(*arguments):
        asked.append(True)
        return fit_margins(*arguments)

    monkeypatch.setattr(Trainer, "fit_margins", fit)
    events = FitEvents(should_interrupt=lambda: bool(asked))
    model = fit_model(dataset(), QUICK, events=events)
    assert model.facts["interrupted"]
    assert model.network.margins is None
    assert model.facts["epochs"] == QUICK["epochs"]


def unsorted(matrix):
    """The same entries, with every row's columns from last to first."""
    matrix, end = matrix.tocsr().copy(), 0
    for start, end in pairwise(matrix.indptr):
        matrix.indices[start:end] = matrix.indices[start:end][::-1]
        matrix.data[start:end] = matrix.data[start:end][::-1]
    matrix.has_sorted_indices = False
    return matrix


def doubled(matrix):
    """Every entry in two halves."""
    twice = csr_matrix(matrix, dtype=np.float64)
    indptr = 2 * twice.indptr
    return csr_matrix(
        (np.repeat(twice.data, 2) / 2, np.repeat(twice.indices, 2), indptr), twice.shape
    )


def long_indices(matrix):
    """Indices of 64 bits."""
    matrix = matrix.tocsr().copy()
    matrix.indices, matrix.indptr = matrix.indices.astype(np.int64), matrix.indptr.astype(np.int64)
    return matrix


@pytest.mark.parametrize(
    "form",
    [
        lambda m: m.astype(np.float64),
        lambda m: m.toarray().astype(">f8"),
        lambda m: np.asfortranarray(m.toarray()),
        lambda m: np.repeat(m.toarray(), 2, axis=1)[:, ::2],  # not contiguous
        lambda m: m.tocsc(),
        lambda m: m.tocoo(),
        lambda m: m.tolil(),
        unsorted,
        doubled,
        long_indices,
    ],
)
def test_the_form_of_the_data_does_not_matter(form):
    data = dataset()
    plain = fit_model(data, QUICK)
    given = Dataset(form(data.X), data.Y if form is doubled else form(data.Y))
    model = fit_model(given, QUICK)
    assert_same_arrays(plain, model)


def test_divergence_names_the_layer_and_the_learning_rate():
    wild = QUICK | {"lr": 1e6, "optimizer": "sgd", "loss": "hinge", "wide": 0}
    with (
        np.errstate(all="ignore"),
        pytest.raises(
            SlideError,
            match=r"diverged in epoch 1 .* in the .*output layer.* lr 1e\+06.* lr to 100000",
        ),
    ):
        fit_model(dataset(), wild)


@pytest.mark.parametrize(
    ("shapes", "problem"),
    [
        (((0, 3), (0, 2)), "0 examples"),
        (((2, 0), (2, 2)), "0 feat"),
        (((2, 3), (2, 0)), "0 labels"),
    ],
)
def test_nothing_to_learn(shapes, problem):
    X, Y = (csr_matrix(shape) for shape in shapes)
    with pytest.raises(DataError, match=f"the data have {problem}"):
        fit_model(Dataset(X, Y))


def test_mistakes_are_named():
    data = dataset()
    with pytest.raises(DataError, match="validation data have 60 features and 41 labels"):
        fit_model(data, QUICK, valid=dataset(n_labels=41))
    with pytest.raises(DataError, match="validation data have 0 examples"):
        fit_model(data, QUICK, valid=Dataset(data.X[:0], data.Y[:0]))
    with pytest.raises(ConfigError, match="epoch is no setting"):
        fit_model(data, {"epoch": 3})
    with pytest.raises(SlideError, match="time limit is 0 seconds"):
        fit_model(data, QUICK, time_limit=0)


@pytest.mark.parametrize("n_known", [8, 40])
def test_a_model_grows(n_known):
    """From 8 labels it also grows past the tail, and so gains tables."""
    first, second = dataset(n_labels=n_known), dataset(n_labels=n_known, first_label=n_known)
    model = fit_model(first, QUICK)
    assert model.hashed == (n_known > 10)
    grown = continue_model(model, second, epochs=2)
    assert grown.hashed
    assert grown.network.n_labels == len(grown.inverse_propensity) == 2 * n_known
    assert grown.facts["n_examples"] == 800
    assert grown.facts["epochs"] == 5
    assert len(grown.network.memory.labels.indptr) == 801
    top = grown.predict_topk(second.X, 1, exact=True).labels
    assert naive_metrics.precision_at_k(top, second.Y.toarray(), 1) > 0.9
    assert grown.config == model.config


@given(st.lists(st.integers(0, 2**16), min_size=1, max_size=3), st.integers(0, 6))
@settings(deadline=None, max_examples=10)
def test_a_grown_model_has_the_tables_of_all_that_it_knows(seeds, n_new):
    model = fit_model(dataset(n=100, n_labels=20), QUICK)
    for seed in seeds:
        n_labels = model.network.n_labels + n_new
        X, Y = (matrix[:9] for matrix in clusters(n=20, n_labels=20, seed=seed)[:2])
        Y = csr_matrix((Y.data, Y.indices, Y.indptr), (9, n_labels))
        if n_new:
            Y.indices[-1] = n_labels - 1
        model = continue_model(model, Dataset(X, Y), epochs=1)
        rebuilt = with_postings(model.network).postings
        for got, expected in zip(model.network.postings, rebuilt, strict=True):
            np.testing.assert_array_equal(got, expected)


def test_further_data_must_fit():
    model = fit_model(dataset(), QUICK)
    with pytest.raises(DataError, match="data have 60 features and 39 labels, the model has 60"):
        continue_model(model, dataset(n_labels=39), epochs=1)


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(0, 3))
@settings(deadline=None, max_examples=60)
def test_wide_paths_join(seed, n_labels, n_new):
    rng = np.random.default_rng(seed)
    paths = []
    for width, scale in ((n_labels, 2.0), (n_labels + n_new, 5.0)):
        X = csr_matrix(rng.integers(0, 2, (4, 6)).astype(np.float32))
        Y = csr_matrix(rng.integers(0, 2, (4, width)).astype(np.uint8))
        paths.append(make_wide(X, Y, scale)[0])
    old, new = ({} for _ in paths)
    for path, pairs in zip(paths, (old, new), strict=True):
        for label in range(len(path.indptr) - 1):
            for e in range(path.indptr[label], path.indptr[label + 1]):
                pairs[label, int(path.features[e])] = path.weights[e]
    known = {label for label, _ in old}
    expected = {
        (label, feature): 0 if label in known else weight
        for (label, feature), weight in new.items()
    } | old
    joined, places, _ = _join_wide(*paths)
    owners = np.repeat(np.arange(n_labels + n_new), np.diff(joined.indptr)).tolist()
    got = list(zip(owners, joined.features.tolist(), strict=True))
    assert got == sorted(expected)
    np.testing.assert_array_equal(joined.weights, [expected[pair] for pair in got])
    assert [got[place] for place in places] == list(old)


def test_a_fit_in_place_is_the_same_fit_and_others_leave_the_data_alone():
    problem = dataset(n=300)
    options = QUICK | {"calibration": 60, "neighbours": 5}
    before = problem.X.copy(), problem.Y.copy()
    model = fit_model(problem, options)
    for kept, rows in zip(before, (problem.X, problem.Y), strict=True):
        for name in ("data", "indices", "indptr"):
            assert np.array_equal(getattr(kept, name), getattr(rows, name))
    in_place = fit_model(problem._replace(X=before[0], Y=before[1]), options, copy=False)
    assert np.array_equal(in_place.network.output.weight, model.network.output.weight)
    assert np.array_equal(in_place.network.margins.bias, model.network.margins.bias)
    for ours, theirs in zip(in_place.network.memory.examples, model.network.memory.examples,
                            strict=True):  # fmt: skip
        assert np.array_equal(ours, theirs)


def test_where_the_wide_path_finds_all_neurons_are_not_filed():
    model = fit_model(dataset(), QUICK | {"wide": 10.0, "tables": {"limit": 0}})
    assert model.network.indexes[-1].tables is None
    empty = csr_matrix((3, model.network.n_features), dtype=np.float32)
    usual = model.network.postings.usual
    assert np.isin(model.predict_topk(empty, 5).labels, usual).all()
