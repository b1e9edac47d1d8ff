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
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import zoom
from scipy.sparse import csr_matrix
from sklearn.datasets import load_digits

from slidelearn import Config, Dataset, TableConfig
from slidelearn.errors import DataError, SlideError
from slidelearn.fitting import FitEvents, fit_model
from slidelearn.index import NeuronIndex
from slidelearn.model import Model, prepare_features
from slidelearn.network import hidden_rows
from slidelearn.rows import Rows, sparse_rows

__all__ = ["Digits", "load", "main"]

_SIDE, _HIDDEN, _LABELS = 16, 512, 10
_TRAIN_SHARE = 0.8  # of the bundled digits
_ARRAYS = ("X_train", "y_train", "X_test", "y_test")
_TABLES_SHOWN = 16  # rows of a table panel; more cannot be told apart

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
    uniform=3,
    epochs=20,
    hidden_lr=0.1,
    batch_size=64,
    dropout=0.0,
    start="random",
    temperature=1.0,
    wide=0.0,
    normalize=False,
)
_DENSE = replace(_HASHED, hidden_tables=None, uniform=_LABELS)


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
    hidden = _HIDDEN if config.hidden_tables is None else len(_hidden(model, X).values) / n
    return Outcome(
        model,
        float(np.mean(found.labels[:, 0] == digits.y_test)),
        # Every neuron is active in the dense network; its labels are pairs as well as shared.
        (float(min(trained[0], 1)), float(min(trained[1], 1))),
        (hidden / _HIDDEN, found.active / n / _LABELS),
    )


def _hidden(model: Model, X: csr_matrix) -> Rows:
    """Hidden activations of images X (n, 256); of a hashed layer, those that were computed."""
    return hidden_rows(model.network, sparse_rows(prepare_features(X, model.config)))


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


class Search(NamedTuple):
    """How a hashed network answered one image.

    Attributes
    ----------
    image : float32 array of shape (256,)
        The pixels.
    digit : int
        What it shows.
    h1, h2 : tuple of (int64 array (L, n_buckets), int32 array (L, P))
        How many neurons every bucket holds, and the buckets that were looked into.
    activations : float32 array of shape (512,)
        Of the hidden neurons; NaN where none was computed.
    logits : float32 array of shape (10,)
        Of the output neurons; NaN where none was computed.
    """

    image: NDArray[np.float32]
    digit: int
    h1: tuple[NDArray[np.int64], NDArray[np.int32]]
    h2: tuple[NDArray[np.int64], NDArray[np.int32]]
    activations: NDArray[np.float32]
    logits: NDArray[np.float32]


def search(model: Model, image: NDArray[np.float32], digit: int) -> Search:
    """Follow one image (256,) through both sets of tables."""
    X = csr_matrix(image[None])
    first, second = model.network.indexes
    assert first is not None
    assert second is not None
    rows = _hidden(model, X)
    activations = np.full(_HIDDEN, np.nan, np.float32)
    activations[rows.indices] = rows.values
    found = model.predict_topk(X, _LABELS)
    logits = np.full(_LABELS, np.nan, np.float32)
    labels = found.labels[0][found.labels[0] >= 0]
    logits[labels] = found.scores[0, : len(labels)]
    pixels = prepare_features(X, model.config).toarray()
    h1 = _buckets(first, pixels, first.train_size.probes)
    h2 = _buckets(second, rows.csr().toarray(), second.predict_size.probes)
    return Search(image, digit, h1, h2, activations, logits)


def _buckets(
    index: NeuronIndex, query: NDArray[np.float32], n_probes: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Sizes of all buckets (L, n_buckets), and those that a query (1, d) looks into (L, P)."""
    assert index.family is not None
    assert index.tables is not None
    assert index.centring is not None
    probes = index.family.probes(index.centring.queries(query), n_probes)[0]
    return np.diff(index.tables.offsets, axis=1), probes


def draw(found: Search, path: str) -> None:
    """Draw one search, left to right: image, H1, hidden neurons, H2, answer.

    Raises
    ------
    SlideError
        If matplotlib is missing, or the file cannot be written.
    """
    figure_class = _matplotlib_figure()
    figure = figure_class(figsize=(15, 5.2), facecolor="white")
    axes = figure.subplots(1, 5, gridspec_kw={"width_ratios": [4, 5, 4, 3, 5]})
    figure.subplots_adjust(left=0.02, right=0.985, top=0.80, bottom=0.16, wspace=0.32)
    _draw_image(axes[0], found)
    _draw_tables(axes[1], "H1", *found.h1)
    _draw_hidden(axes[2], found.activations)
    _draw_tables(axes[3], "H2", *found.h2)
    _draw_answer(axes[4], found.logits)
    for left, right in pairwise(axes):
        _draw_arrow(figure, left.get_position().x1, right.get_position().x0)
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise SlideError(f"{path}: cannot be written ({error.strerror or error})") from None
    except ValueError as error:
        raise SlideError(f"{path}: {' '.join(str(error).split())}") from None


def _matplotlib_figure() -> Any:
    """The class of figures, which draw without a display."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise SlideError("--figure needs matplotlib, run: pip install 'slidelearn[plot]'") from None
    return Figure


_GREY, _HIT, _ACTIVE = "#e4e4e4", "#e8590c", "#1864ab"


def _caption(axis: Any, title: str, note: str) -> None:
    """Head a panel, and say below it what is to be seen."""
    axis.set_title(title, fontsize=12, fontweight="bold", pad=10)
    axis.text(
        0.5,
        -0.05,
        note,
        transform=axis.transAxes,
        ha="center",
        va="top",
        fontsize=9.5,
        color="#444",
    )
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_color("#bbb")


def _draw_image(axis: Any, found: Search) -> None:
    axis.imshow(found.image.reshape(_SIDE, _SIDE), cmap="gray_r", vmin=0, vmax=1)
    _caption(axis, "Image", f"16 x 16 pixels = 256 inputs\na handwritten {found.digit}")


def _draw_tables(axis: Any, name: str, sizes: NDArray[np.int64], probes: NDArray[np.int32]) -> None:
    """One row per table, one cell per bucket: the fuller the darker, hit ones in colour."""
    n_tables, n_buckets = sizes.shape
    shown = min(n_tables, _TABLES_SHOWN)
    shade = np.sqrt(sizes[:shown])  # few buckets are far fuller than the others
    axis.imshow(shade, cmap="Greys", vmin=0, vmax=1.8 * max(shade.max(), 1), aspect="auto")
    for table in range(shown):
        for bucket in probes[table][probes[table] >= 0]:
            axis.axvspan(
                bucket - 0.5, bucket + 0.5, 1 - (table + 1) / shown, 1 - table / shown,
                color=_HIT, linewidth=0,
            )  # fmt: skip
    axis.hlines(np.arange(1, shown) - 0.5, -0.5, n_buckets - 0.5, color="white", linewidth=1.5)
    _caption(
        axis,
        f"Tables {name}",
        f"{probes.shape[1]} of {n_buckets} buckets hit in each table\n"
        f"(a row is a table; {shown} of {n_tables} shown)",
    )


def _draw_hidden(axis: Any, activations: NDArray[np.float32]) -> None:
    """One cell per hidden neuron, 16 in a row: grey if not computed."""
    from matplotlib import colormaps

    colours = colormaps["Blues"].copy()
    colours.set_bad(_GREY)
    grid = activations.reshape(-1, _SIDE)
    computed = int(np.isfinite(activations).sum())
    # Computed neurons that ReLU silenced are pale blue, unlike those that were left out.
    top = max(float(np.nanmax(activations, initial=0)), 1e-9)
    axis.imshow(np.ma.masked_invalid(grid), cmap=colours, vmin=-0.3 * top, vmax=top, aspect="auto")
    axis.set_xticks(np.arange(_SIDE + 1) - 0.5, minor=True)
    axis.set_yticks(np.arange(len(grid) + 1) - 0.5, minor=True)
    axis.grid(which="minor", color="white", linewidth=0.8)
    axis.tick_params(which="minor", length=0)
    note = f"{computed} of {_HIDDEN} looked up and computed\n(grey: never touched)"
    _caption(axis, "Hidden neurons", note)


def _draw_answer(axis: Any, logits: NDArray[np.float32]) -> None:
    """Bars of the softmax over the computed output neurons."""
    computed = np.isfinite(logits)
    share = np.zeros(_LABELS)
    if computed.any():
        share[computed] = np.exp(logits[computed] - logits[computed].max())
        share /= share.sum()
    answer = int(share.argmax())
    colours = [_HIT if label == answer else _ACTIVE for label in range(_LABELS)]
    axis.barh(np.arange(_LABELS), share, color=colours, height=0.7)
    axis.set_xlim(0, 1.18)
    axis.set_ylim(_LABELS - 0.4, -0.6)
    title = f"Answer: {answer}" if computed.any() else "No answer"
    note = f"{computed.sum()} of {_LABELS} output neurons looked up\n(softmax over these)"
    _caption(axis, title, note)
    axis.set_yticks(np.arange(_LABELS), [str(label) for label in range(_LABELS)], fontsize=11)
    axis.tick_params(axis="y", length=0)
    for label, tick in enumerate(axis.get_yticklabels()):
        tick.set_color("black" if computed[label] else "#bbb")
        text = f"{share[label]:.0%}" if computed[label] else "not computed"
        colour = "black" if computed[label] else "#bbb"
        axis.text(share[label] + 0.02, label, text, va="center", fontsize=9, color=colour)


def _draw_arrow(figure: Any, start: float, end: float) -> None:
    """An arrow between two panels, at half height."""
    from matplotlib.patches import FancyArrowPatch

    margin = 0.22 * (end - start)  # room for the labels of an axis
    figure.add_artist(
        FancyArrowPatch(
            (start + margin, 0.48),
            (end - margin, 0.48),
            transform=figure.transFigure,
            arrowstyle="-|>",
            mutation_scale=18,
            color="#777",
            linewidth=1.6,
        )
    )


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
            _matplotlib_figure()  # before training, not after
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
