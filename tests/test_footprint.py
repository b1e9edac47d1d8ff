"""Footprints: what a run will take, before it takes it."""

import pytest

from problems import clusters
from slidelearn import footprint
from slidelearn.coarse_rows import coarse_bytes
from slidelearn.config import Config
from slidelearn.datasets import Dataset
from slidelearn.errors import SlideError
from slidelearn.fitting import continue_model, fit_model
from slidelearn.footprint import check_memory, kept_bytes, measure_footprint
from slidelearn.network_arrays import name_arrays
from slidelearn.rules import choose_config

QUICK = {"hidden": [24], "tail": 10, "epochs": 1, "batch_size": 64, "threads": 1}
SIMHASH = {"family": "simhash", "k": 3, "l": 4}
STATES = ("squares", "first", "second", "steps")


def problem():
    X, Y, _ = clusters()
    return Dataset(X, Y)


def held(model):
    """Bytes of parameters and of optimizers in a model."""
    arrays = name_arrays(model)
    layers = ("hidden.0.weight", "hidden.1.weight", "output.weight")
    sparse = ("wide.features", "wide.weights", "margins.features", "margins.weights")
    parameters = sum(arrays[name].nbytes for name in (*layers, *sparse) if name in arrays)
    is_state = {name: name.split(".")[-1] in STATES for name in arrays}
    return parameters, sum(a.nbytes for name, a in arrays.items() if is_state[name])


@pytest.mark.parametrize(
    "changes",
    [
        {"wide": 4.0},
        {},
        {"margin": 0.0},
        {"wide": 4.0, "margin": 0.0, "optimizer": "sgd"},
        {"hidden": [24, 16], "optimizer": "adam", "lr": 0.01},
        {"hidden": [24, 16], "hidden_tables": SIMHASH},
    ],
)
def test_parameters_and_optimizers_are_those_of_the_model(changes):
    data, settings = problem(), QUICK | changes
    need = measure_footprint(data, choose_config(data.X, data.Y, settings))
    assert (need.parameters, need.optimizer) == held(fit_model(data, settings))


@pytest.mark.parametrize("changes", [{"wide": 4.0}, {}, {"margin": 0.0}, {"neighbours": 0}])
def test_a_model_that_learns_more_takes_what_it_then_holds(changes):
    model, more = fit_model(problem(), QUICK | changes), Dataset(*clusters(n_labels=50, seed=1)[:2])
    need, bound = (
        measure_footprint(more, model.config, known=model.network, exact=exact)
        for exact in (True, False)
    )
    assert all(most >= size for most, size in zip(bound, need, strict=True))
    beside = need.data - measure_footprint(more, model.config).data
    grown = continue_model(model, more, epochs=1)
    assert (need.parameters, need.optimizer) == held(grown)
    remembered = ("indptr", "features", "values", "label_indptr", "labels")
    arrays = name_arrays(grown)
    assert beside == sum(
        arrays[f"memory.{part}"].nbytes for part in remembered if grown.config.neighbours
    )


@pytest.mark.parametrize("width", [24, 70])
@pytest.mark.parametrize("tables", [{}, {"family": "simhash", "l": 1}, {"l": 2}])
def test_rows_that_predictions_rank_by_count(tables, width):
    changes = {"hidden": [width], "wide": 0.0, "tail": 10, "tables": tables}
    model = fit_model(problem(), QUICK | changes)
    kept = [a for name, a in name_arrays(model).items() if ".rows." in name or "sketches" in name]
    (n_neurons, width) = model.network.output.n_out, model.network.output.n_in
    assert kept_bytes(model.config.tables, n_neurons, width) == sum(a.nbytes for a in kept)


@pytest.mark.parametrize("width", [24, 35])
@pytest.mark.parametrize("hidden_tables", [None, SIMHASH])
def test_coarse_rows_and_the_head_count(hidden_tables, width):
    changes = {"hidden": [width], "wide": 4.0, "hidden_tables": hidden_tables}
    data, settings = problem(), QUICK | changes
    model = fit_model(data, settings)
    rows, head = sum(a.nbytes for a in model.network.coarse), 0
    assert rows == (0 if hidden_tables else coarse_bytes(model.network.output.n_out, width))
    if len(model.network.head.labels):
        head = sum(a.nbytes for a in model.network.head)
    assert (head > 0) != bool(hidden_tables)
    less = measure_footprint(data, choose_config(data.X, data.Y, settings | {"tail": 10**6}))
    more = measure_footprint(data, choose_config(data.X, data.Y, settings))
    assert rows + head <= more.tables - less.tables <= rows + 2 * head


def test_a_copy_of_the_data_counts_and_the_bound_is_one():
    data, config = problem(), Config.from_dict(QUICK)
    once, twice = (measure_footprint(data, config, copy=copy) for copy in (False, True))
    assert twice.data == 2 * once.data
    assert twice.total == once.total + once.data
    bound = measure_footprint(data, config, exact=False)
    assert all(most >= size for most, size in zip(bound, once, strict=True))
    assert bound.parameters > once.parameters


def test_a_run_that_does_not_fit_is_refused(monkeypatch):
    data = problem()
    config = choose_config(data.X, data.Y, QUICK)
    need = measure_footprint(data, config, copy=True)
    monkeypatch.setattr(footprint, "memory_for_process", lambda: need.total)
    check_memory(data, config, copy=True)
    fit_model(data, QUICK)
    monkeypatch.setattr(footprint, "memory_for_process", lambda: need.total - 1)
    with pytest.raises(SlideError, match=r"needs 0\.\d\d GiB of memory \(data .*process can have"):
        fit_model(data, QUICK)
    monkeypatch.setattr(footprint, "memory_for_process", lambda: None)
    check_memory(data, config, copy=True)
