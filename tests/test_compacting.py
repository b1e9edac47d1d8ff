import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_matrix

from models import assert_same_arrays
from slidelearn.cli import main
from slidelearn.compacting import COMPACT_TYPES, compact_model
from slidelearn.datasets import Dataset, save_dataset
from slidelearn.errors import ConfigError, ModelError
from slidelearn.fitting import continue_model, fit_model
from slidelearn.model_file import file_sizes, load_model, save_model

HASHED = {"family": "simhash", "k": 2, "l": 3, "limit": 5}
NETWORKS = {
    "text": {"tail": 5, "wide": 10.0, "neighbours": 3, "margin": 1.0},
    "adam": {"tail": 5, "optimizer": "adam", "wide": 0, "hidden": [8, 6]},
    "every neuron": {"tail": 100, "wide": 0},
    "hashed hidden": {"tail": 5, "hidden_tables": HASHED},
}


def make_data(n=120, d=20, n_labels=30):
    rng = np.random.default_rng(0)
    X = csr_matrix((rng.random((n, d)) * (rng.random((n, d)) < 0.3)).astype(np.float32))
    Y = csr_matrix((rng.random((n, n_labels)) < 0.05).astype(np.float32))
    return Dataset(X, Y)


@pytest.fixture(params=NETWORKS)
def model(request):
    return fit_model(make_data(), NETWORKS[request.param] | {"epochs": 2})


@pytest.mark.parametrize("dtype", COMPACT_TYPES)
def test_a_copy_predicts_alike_and_comes_back_from_its_folder(model, dtype, tmp_path):
    X = make_data().X
    copy = compact_model(model, dtype)
    save_model(copy, tmp_path)
    loaded = load_model(tmp_path)
    assert_same_arrays(loaded, copy)
    assert loaded.facts["compact"] == dtype
    tolerance = {"int8": 0.02, "bf16": 0.01}.get(dtype, 1e-3)
    ref = model.scores(X)
    assert_allclose(loaded.scores(X), ref, atol=tolerance * np.abs(ref).max())
    for exact in (False, True):
        one, other = (m.predict_topk(X, 5, exact=exact) for m in (model, loaded))
        assert np.mean(one.labels == other.labels) > 0.9
        assert_array_equal(other.labels, copy.predict_topk(X, 5, exact=exact).labels)
    if dtype == "float32":
        assert_array_equal(one.labels, other.labels)


def test_a_copy_has_no_optimizer_and_small_weights():
    model = fit_model(make_data(), NETWORKS["text"] | {"epochs": 1})
    network = compact_model(model, "int8").network
    for layer in (*network.hidden, network.output):
        assert not any(state.size for state in layer.optimizer[1:])
        assert layer.weight.size == 0
        assert layer.small.values.dtype == np.int8
    assert network.wide.squares.size == 0
    assert (network.output.n_in, network.output.n_out) == (
        model.network.output.n_in,
        model.network.output.n_out,
    )
    assert network.n_features == model.network.n_features


def test_a_copy_cannot_be_trained_or_copied(tmp_path):
    model = fit_model(make_data(), NETWORKS["text"] | {"epochs": 1})
    copy = compact_model(model, "int16")
    with pytest.raises(ModelError, match="compact copy"):
        continue_model(copy, make_data(), epochs=1)
    with pytest.raises(ModelError, match="compact copy"):
        compact_model(copy)
    with pytest.raises(ConfigError, match="'int4', choose one of float32, int8, int16, bf16"):
        compact_model(model, "int4")
    save_model(dataclasses.replace(copy, facts=copy.facts | {"compact": "int4"}), tmp_path)
    with pytest.raises(ModelError, match="compact is 'int4'"):
        load_model(tmp_path)
    save_model(dataclasses.replace(copy, facts=copy.facts | {"compact": "int8"}), tmp_path)
    with pytest.raises(ModelError, match="I16"):
        load_model(tmp_path)


def test_the_command_reports_sizes_and_accuracy(tmp_path, capsys):
    data = make_data()
    folder, out, file = tmp_path / "model", tmp_path / "copy", tmp_path / "test.txt"
    save_model(fit_model(data, NETWORKS["text"] | {"epochs": 1}), folder)
    save_dataset(data, file)
    assert main(["compact", str(folder), str(out), "--test", str(file)]) == 0
    told = capsys.readouterr().out
    assert told.count("MiB") == 2
    assert told.count("P@1") == 2
    assert sum(file_sizes(out).values()) < sum(file_sizes(folder).values())
    assert main(["inspect", str(out)]) == 0
    assert "compact copy for predictions: int8" in capsys.readouterr().out
    assert main(["evaluate", str(out), str(file)]) == 0
    assert main(["compact", str(folder), str(folder)]) == 1
    assert "own folder" in capsys.readouterr().err
    assert main(["compact", str(folder), str(out), "--drop-optimizer"]) == 0
    assert load_model(out).facts["compact"] == "float32"
    assert main(["train", str(file), "--continue", str(out), "--model", str(tmp_path / "m")]) == 1
    assert "compact copy" in capsys.readouterr().err
