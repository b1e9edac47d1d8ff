"""The digits example: what it prints, that it learns, and what it says to a mistake."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import digits

KEYS = {"dense_accuracy", "hashed_accuracy", "hidden_active_share", "output_active_share"}


@pytest.fixture
def few(tmp_path):
    """A file with a few hundred of the bundled digits."""
    whole = digits.load(None)
    path = tmp_path / "few.npz"
    np.savez(
        path,
        X_train=whole.X_train[:400],
        y_train=whole.y_train[:400],
        X_test=whole.X_test[:100],
        y_test=whole.y_test[:100],
    )
    return str(path)


def test_prints_one_object_and_learns(few, capsys):
    assert digits.main(["--data", few, "--json", "--epochs", "20", "--threads", "1"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result.keys() == KEYS
    assert 0 < result["hidden_active_share"] <= 0.2
    assert 0 < result["output_active_share"] < 0.9
    assert result["dense_accuracy"] > 0.8
    assert result["hashed_accuracy"] > 0.7  # chance is 0.1


def test_bundled_digits_are_16x16_and_split_once():
    first, second = digits.load(None), digits.load(None)
    assert first.X_train.shape == (1437, 256)
    assert first.X_test.shape == (360, 256)
    assert first.X_train.min() >= 0
    assert first.X_train.max() == 1
    np.testing.assert_array_equal(first.y_test, second.y_test)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"X_train": np.zeros((3, 64))}, "shape (3, 64)"),
        ({"y_test": np.array([0, 10])}, "from 0 to 9"),
        ({"X_test": np.full((2, 256), 255)}, "scale the pixels"),
        ({"X_test": np.full((2, 256), np.nan)}, "scale the pixels"),
        ({"X_train": np.zeros((0, 256)), "y_train": np.zeros(0, int)}, "n from 1"),
    ],
)
def test_names_what_is_wrong_with_a_file(changes, words, tmp_path, capsys):
    arrays = {
        "X_train": np.zeros((3, 256)),
        "y_train": np.arange(3),
        "X_test": np.zeros((2, 256)),
        "y_test": np.arange(2),
    }
    path = tmp_path / "wrong.npz"
    np.savez(path, **(arrays | changes))
    assert digits.main(["--data", str(path)]) == 1
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_missing_file_and_missing_array_are_one_line(tmp_path, capsys):
    assert digits.main(["--data", str(tmp_path / "none.npz")]) == 1
    assert "none.npz: cannot be read" in capsys.readouterr().err
    np.savez(tmp_path / "part.npz", X_train=np.zeros((1, 256)))
    assert digits.main(["--data", str(tmp_path / "part.npz")]) == 1
    assert "y_train" in capsys.readouterr().err


def test_missing_matplotlib_is_named_before_training(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert digits.main(["--figure", "out.png"]) == 1
    error = capsys.readouterr().err
    assert "pip install 'slidelearn[plot]'" in error
    assert error.count("\n") == 1
