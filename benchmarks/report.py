"""Tables and plots of what `benchmarks.peers` measured."""

from pathlib import Path
from typing import Any

try:
    from matplotlib.figure import Figure
except ModuleNotFoundError:  # said before anything was measured
    raise SystemExit("the plots need matplotlib, run: pip install 'slidelearn[plot]'") from None

__all__ = ["draw_curves", "draw_frontier", "markdown_table"]

_COLUMNS = (
    ("train s", "train_seconds"),
    ("CPU s", "train_cpu_seconds"),
    ("peak MB", "train_peak_mb"),
    ("model MB", "model_mb"),
    ("P@1", "p@1"),
    ("P@3", "p@3"),
    ("P@5", "p@5"),
    ("PSP@1", "psp@1"),
    ("PSP@3", "psp@3"),
    ("PSP@5", "psp@5"),
    ("batch ms", "batch_ms"),
    ("single ms p50", "single_p50_ms"),
    ("p99", "single_p99_ms"),
)


def markdown_table(contestants: list[dict[str, Any]]) -> str:
    """One row for each contestant."""
    lines = [
        "| method | " + " | ".join(heading for heading, _ in _COLUMNS) + " |",
        "|---" * (len(_COLUMNS) + 1) + "|",
    ]
    for one in contestants:
        if "error" in one:
            lines.append(f"| {one['name']} | {one['error'].replace('|', '/')} |")
            continue
        cells = (str(one[key]) for _, key in _COLUMNS)
        lines.append(f"| {one['name']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw_curves(results: dict[str, Any], path: Path) -> None:
    """P@1 against seconds of training: curves where there are any, points otherwise."""
    figure, axes = _axes()
    for one in results["contestants"]:
        if "error" in one:
            continue
        line = [(point["seconds"], point["p@1"]) for point in one["curve"]]
        if not line:
            line = [(one["train_seconds"], one["p@1"])]
        axes.plot(*zip(*line, strict=True), marker="o", label=one["name"])
    axes.set_xscale("log")
    axes.set_xlabel(f"seconds of training on {results['threads']} threads")
    axes.set_ylabel("P@1 in percent")
    axes.set_title(results["dataset"])
    _save(figure, axes, path)


def draw_frontier(points: list[dict[str, Any]], path: Path, title: str) -> None:
    """Queries a second against recall@5, a line for every search."""
    figure, axes = _axes()
    for i, name in enumerate(dict.fromkeys(point["name"] for point in points)):
        own = [point for point in points if point["name"] == name]
        legend = f"{name}, {own[0]['build_seconds']:.0f} s, {own[0]['memory_mb']:.0f} MiB to build"
        line = [(point["recall"], point["per_second"]) for point in own]
        marker = "os^"[i // 10]  # there are ten colours
        axes.plot(*zip(*line, strict=True), marker=marker, label=legend)
    axes.set_yscale("log")
    axes.set_xlabel("recall@5")
    axes.set_ylabel("queries a second, one thread")
    axes.set_title(title)
    _save(figure, axes, path)


def _axes() -> tuple[Figure, Any]:
    """A figure that needs no screen."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    return figure, figure.subplots()


def _save(figure: Figure, axes: Any, path: Path) -> None:
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=150)
