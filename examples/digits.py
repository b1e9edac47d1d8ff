"""Digits: a network of 256 inputs, 512 hidden neurons and 10 outputs, with both layers hashed.

The hash of an image (tables H1) looks up which hidden neurons to compute; the hash of their
activations (tables H2) looks up which output neurons to compute. The same network with every neuron
active is trained beside it. Run ``python examples/digits.py --figure digits.png``.
"""

import argparse
import json
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import zoom
from scipy.sparse import csr_matrix
from sklearn.datasets import load_digits

from digits_figure import draw, hidden_activations, matplotlib_figure, search
from slidelearn import Config, Dataset, TableConfig
from slidelearn.errors import DataError, SlideError
from slidelearn.fitting import FitEvents, fit_model
from slidelearn.model import Model

__all__ = ["Digits", "load", "main"]

_SIDE, _HIDDEN, _LABELS = 16, 512, 10
_TRAIN_SHARE = 0.8  # of the bundled digits
_ARRAYS = ("X_train", "y_train", "X_test", "y_test")

_H1 = TableConfig(
    family="simhash",
    k=6,
    l=64,
    probes=4,
    limit=102,  # a fifth of the hidden neurons, in training and in prediction
    strategy="topk",
    rebuild_every=20,
    rebuild_decay=0.1,
)
_H2 = TableConfig(
    family="centroids",
    n_buckets=5,
    l=4,
    probes=2,
    limit=3,
    predict_probes=3,
    predict_limit=7,
    strategy="topk",
    rebuild_every=20,
    rebuild_decay=0.1,
)
# Pixels lie between 0 and 1, and how much ink there is says something: no scaling to length 1.
_HASHED = Config(
    hidden=(_HIDDEN,),
    hidden_tables=_H1,
    tables=_H2,
    tail=3,
    epochs=30,
    hidden_lr=0.1,
    batch_size=64,
    dropout=0.2,
    input_dropout=0.2,
    lr_end=0.0,
    start="random",
    temperature=1.0,
    wide=0.0,
    neighbours=0,
    margin=0.0,
    normalize=False,
)
_DENSE = replace(_HASHED, hidden_tables=None, tail=_LABELS)


class Digits(NamedTuple):
    """Images of handwritten digits, float32 (n, 256) from 0 to 1, and which digits they show."""

    X_train: NDArray[np.float32]
    y_train: NDArray[np.int64]
    X_test: NDArray[np.float32]
    y_test: NDArray[np.int64]


@dataclass(frozen=True)
class Outcome:
    """What one network reached.

    Attributes
    ----------
    model : Model
        The network.
    accuracy : float
        Share of the test images that it names.
    trained, predicted : tuple of float
        Share of the hidden and of the output neurons that an image computed, on average.
    """

    model: Model
    accuracy: float
    trained: tuple[float, float]
    predicted: tuple[float, float]


def load(path: str | None) -> Digits:
    """Read digits from a .npz file, or resize scikit-learn's bundled ones to 16x16.

    Raises
    ------
    DataError
        If the file is not what `Digits` describes.
    """
    if path is not None:
        return _read(path)
    X, y = load_digits(return_X_y=True)
    images = np.clip(zoom(X.reshape(-1, 8, 8) / 16, (1, 2, 2), order=1), 0, 1)
    X = images.reshape(-1, _SIDE**2).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(y))
    train, test = np.split(order, [int(_TRAIN_SHARE * len(y))])
    return Digits(X[train], y[train], X[test], y[test])


def _read(path: str) -> Digits:
    """Read and check the four arrays of a .npz file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = [np.asarray(file[name]) for name in _ARRAYS]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    except KeyError as error:
        raise DataError(f"{path}: {error.args[0]}; give {', '.join(_ARRAYS)}") from None
    except (ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a .npz file of plain arrays ({error})") from None
    return Digits(*_examples(path, "train", *arrays[:2]), *_examples(path, "test", *arrays[2:]))


def _examples(
    path: str, part: str, X: NDArray[Any], y: NDArray[Any]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Images as rows of 256 pixels with their digits, checked."""
    if X.ndim < 2 or X[0:1].size != _SIDE**2 or y.shape != X.shape[:1]:
        raise DataError(
            f"{path}: X_{part} has shape {X.shape} and y_{part} {y.shape}, "
            f"give (n, {_SIDE**2}) and (n,) with n from 1"
        )
    if not np.issubdtype(y.dtype, np.integer) or y.min() < 0 or y.max() >= _LABELS:
        raise DataError(f"{path}: y_{part} must hold whole numbers from 0 to {_LABELS - 1}")
    if not np.issubdtype(X.dtype, np.number) or not (X.min() >= 0 and X.max() <= 1):
        raise DataError(f"{path}: X_{part} must hold numbers from 0 to 1, scale the pixels")
    return X.reshape(len(X), -1).astype(np.float32), y.astype(np.int64)


def train(digits: Digits, config: Config) -> Outcome:
    """Train one network and test it with the neurons that it retrieves."""
    labels = np.eye(_LABELS, dtype=np.uint8)[digits.y_train]
    data = Dataset(csr_matrix(digits.X_train), csr_matrix(labels))
    records: list[dict[str, Any]] = []
    model = fit_model(data, config.to_dict(), events=FitEvents(on_epoch=records.append))
    X = csr_matrix(digits.X_test)
    found = model.predict_topk(X, 1)
    n = len(digits.y_test)
    trained = np.mean([record["active_share"] for record in records], axis=0)
    hidden = (
        _HIDDEN if config.hidden_tables is None else len(hidden_activations(model, X).values) / n
    )
    return Outcome(
        model,
        float(np.mean(found.labels[:, 0] == digits.y_test)),
        (float(trained[0]), float(trained[1])),
        (hidden / _HIDDEN, found.active / n / _LABELS),
    )


def summarize(dense: Sequence[Outcome], hashed: Sequence[Outcome]) -> dict[str, float]:
    """Means over the seeds; of the shares in training and in prediction, the larger one."""
    trained = np.mean([outcome.trained for outcome in hashed], axis=0)
    predicted = np.mean([outcome.predicted for outcome in hashed], axis=0)
    shares = np.maximum(trained, predicted)
    return {
        "dense_accuracy": float(np.mean([outcome.accuracy for outcome in dense])),
        "hashed_accuracy": float(np.mean([outcome.accuracy for outcome in hashed])),
        "hidden_active_share": float(shares[0]),
        "output_active_share": float(shares[1]),
    }


def _table(dense: Sequence[Outcome], hashed: Sequence[Outcome]) -> str:
    """The two networks side by side, as text."""
    lines = [f"{'':8}{'test':>9}{'hidden neurons computed':>28}{'output neurons computed':>28}"]
    lines.append(f"{'network':8}{'accuracy':>9}" + 2 * f"{'training':>17}{'test':>11}")
    for name, outcomes in (("dense", dense), ("hashed", hashed)):
        accuracy = np.mean([outcome.accuracy for outcome in outcomes])
        trained = np.mean([outcome.trained for outcome in outcomes], axis=0)
        predicted = np.mean([outcome.predicted for outcome in outcomes], axis=0)
        shares = "".join(f"{a:>17.1%}{b:>11.1%}" for a, b in zip(trained, predicted, strict=True))
        lines.append(f"{name:8}{accuracy:>9.2%}{shares}")
    return "\n".join(lines)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="digits.py", description="Train a dense and a hashed network on 16x16 digits."
    )
    parser.add_argument(
        "--data", metavar="FILE", help=f".npz with {', '.join(_ARRAYS)} (default: bundled digits)"
    )
    parser.add_argument("--figure", metavar="FILE.png", help="draw how one test image is answered")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument("--seeds", type=int, default=1, help="runs to average (default: 1)")
    parser.add_argument("--epochs", type=int, default=_HASHED.epochs, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=0, help="default: as many as there are")
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        parser.error(f"--seeds is {options.seeds}, give at least 1")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Train both networks, report them, draw; 1 after a user's mistake, in one line."""
    options = _parse(arguments)
    try:
        if options.figure:
            matplotlib_figure()  # before training, not after
        _run(options)
    except SlideError as error:
        print(f"digits.py: error: {error}", file=sys.stderr)
        return 1
    return 0


def _run(options: argparse.Namespace) -> None:
    """Train, report and draw as the options ask."""
    digits = load(options.data)
    dense: list[Outcome] = []
    hashed: list[Outcome] = []
    for seed in range(options.seeds):
        changes = {"seed": seed, "epochs": options.epochs, "threads": options.threads}
        for config, outcomes in ((_DENSE, dense), (_HASHED, hashed)):
            outcomes.append(train(digits, replace(config, **changes)))
        print(
            f"seed {seed}: dense {dense[-1].accuracy:.2%}, hashed {hashed[-1].accuracy:.2%}",
            file=sys.stderr,
        )
    print(json.dumps(summarize(dense, hashed)) if options.json else _table(dense, hashed))
    if options.figure:
        draw(search(hashed[0].model, digits.X_test[0], int(digits.y_test[0])), options.figure)
        print(f"figure: {options.figure}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
