"""The figure of the digits example: how tables answer one image, from pixels to a digit."""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from slidelearn.errors import SlideError
from slidelearn.index import NeuronIndex
from slidelearn.model import Model
from slidelearn.network import hidden_rows
from slidelearn.rows import Rows, sparse_rows

__all__ = ["Search", "draw", "hidden_activations", "matplotlib_figure", "search"]

_SIDE = 16  # pixels
_TABLES_SHOWN = 16  # rows of a table panel; more cannot be told apart
_GREY, _HIT, _ACTIVE = "#e4e4e4", "#e8590c", "#1864ab"


def hidden_activations(model: Model, X: csr_matrix) -> Rows:
    """Hidden activations of images X (n, 256); of a hashed layer, those that were computed."""
    return hidden_rows(model.network, sparse_rows(model.prepare(X)))


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
    rows = hidden_activations(model, X)
    activations = np.full(model.network.hidden[-1].n_out, np.nan, np.float32)
    activations[rows.indices] = rows.values
    found = model.predict_topk(X, model.network.n_labels)
    logits = np.full(model.network.n_labels, np.nan, np.float32)
    labels = found.labels[0][found.labels[0] >= 0]
    logits[labels] = found.scores[0, : len(labels)]
    pixels = model.prepare(X).toarray()
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
    figure_class = matplotlib_figure()
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


def matplotlib_figure() -> Any:
    """The class of figures, which draw without a display."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise SlideError("--figure needs matplotlib, run: pip install 'slidelearn[plot]'") from None
    return Figure


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
    note = f"{computed} of {len(activations)} looked up and computed\n(grey: never touched)"
    _caption(axis, "Hidden neurons", note)


def _draw_answer(axis: Any, logits: NDArray[np.float32]) -> None:
    """Bars of the softmax over the computed output neurons."""
    computed = np.isfinite(logits)
    share = np.zeros(len(logits))
    if computed.any():
        share[computed] = np.exp(logits[computed] - logits[computed].max())
        share /= share.sum()
    answer = int(share.argmax())
    colours = [_HIT if label == answer else _ACTIVE for label in range(len(logits))]
    axis.barh(np.arange(len(logits)), share, color=colours, height=0.7)
    axis.set_xlim(0, 1.18)
    axis.set_ylim(len(logits) - 0.4, -0.6)
    title = f"Answer: {answer}" if computed.any() else "No answer"
    note = f"{computed.sum()} of {len(logits)} output neurons looked up\n(softmax over these)"
    _caption(axis, title, note)
    axis.set_yticks(
        np.arange(len(logits)), [str(label) for label in range(len(logits))], fontsize=11
    )
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
