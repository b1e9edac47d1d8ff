"""What others rely on: the public names, and folders that earlier versions wrote."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

import slidelearn
from slidelearn.datasets import load_dataset
from slidelearn.model_file import load_model

FOLDERS = sorted((Path(__file__).parent / "folders").iterdir())
NAMES = {
    "Config",
    "Dataset",
    "SlideClassifier",
    "TableConfig",
    "errors",
    "load",
    "load_dataset",
    "save_dataset",
}
METHODS = {
    "decision_function", "fit", "get_params", "load", "partial_fit", "predict", "predict_proba",
    "predict_topk", "save", "score", "set_params",
}  # fmt: skip


def test_public_names():
    assert set(slidelearn.__all__) == NAMES
    for name in NAMES:
        assert getattr(slidelearn, name) is not None
    assert set(dir(slidelearn.SlideClassifier)) >= METHODS


@pytest.mark.parametrize("folder", FOLDERS, ids=[folder.name for folder in FOLDERS])
def test_a_folder_of_an_earlier_version_predicts_what_it_did(folder):
    """Scores may differ by rounding."""
    expected = json.loads((folder / "expected.json").read_text())
    X = load_dataset(folder / "examples.txt").X
    model = load_model(folder / "model")
    labels = np.array(expected["labels"])
    top = model.predict_topk(X, 3, exact=True)
    assert_allclose(top.scores, expected["scores"], rtol=1e-3, atol=1e-3)
    assert np.mean(top.labels == labels) > 0.99
    assert np.mean(model.predict_topk(X, 3).labels[:, 0] == labels[:, 0]) > 0.95
    assert model.label_names == expected["label_names"]
