"""Answers of the demo: from words to the functions that one would call."""

import builtins
import time
from typing import NamedTuple

import numpy as np
from rich.console import Console

from slidelearn.datasets import as_csr_features
from slidelearn.demo.cache import Learned

__all__ = ["Answer", "find", "print_answer"]

_SHOWN = 8
_ALSO = 5  # builtins that are mentioned
_ASKED = 100  # enough for these besides what is not shown
_COMMON_TYPES = (bytes, dict, int, list, set, str, tuple)
_BUILTINS = frozenset(dir(builtins)).union(
    f".{method}" for kind in _COMMON_TYPES for method in dir(kind)
)


class Answer(NamedTuple):
    """What was found for some words.

    Attributes
    ----------
    names : list of (str, float)
        Names of functions with their scores, best first. Private names are left out, and bare ones,
        which are local to some function.
    builtins : list of str
        Built-in functions, and methods of built-in types, that scored as well as these; nearly
        every function calls some.
    share : float
        Share of the output neurons that were computed.
    milliseconds : float
        How long it took.
    """

    names: list[tuple[str, float]]
    builtins: list[str]
    share: float
    milliseconds: float


def find(learned: Learned, words: str) -> Answer:
    """Predict what a function with these words would call; nothing if no word is known."""
    model = learned.model
    X = as_csr_features(learned.encoder.transform([words]))
    if X.nnz == 0:
        return Answer([], [], 0.0, 0.0)
    n_labels = model.network.n_labels
    began = time.perf_counter()
    top = model.predict_topk(X, min(_ASKED, n_labels), threads=1)
    milliseconds = 1000 * (time.perf_counter() - began)
    labels = model.label_names or []
    found = [
        (labels[label], score)
        for label, score in zip(top.labels[0].tolist(), top.scores[0].tolist(), strict=True)
        if label >= 0
    ]
    names = [(name, score) for name, score in found if _is_telling(name)][:_SHOWN]
    lowest = names[-1][1] if names else -np.inf
    plain = [name for name, score in found if name in _BUILTINS and score >= lowest][:_ALSO]
    return Answer(names, plain, top.active / n_labels, milliseconds)


def print_answer(words: str, answer: Answer, console: Console) -> None:
    """Show what was found."""
    console.print(f"\n{words}", style="bold", soft_wrap=True)
    if not answer.names and not answer.builtins:
        console.print("  none of these words is known; try others", soft_wrap=True)
        return
    for name, score in answer.names:
        console.print(f"  {score:7.2f}  {_call(name)}", soft_wrap=True)
    if answer.builtins:
        also = ", ".join(map(_call, answer.builtins))
        console.print(f"  and {also}", style="dim", soft_wrap=True)
    console.print(
        f"  {100 * answer.share:.1f} % of the neurons in {answer.milliseconds:.1f} ms",
        style="dim",
        soft_wrap=True,
    )


def _is_telling(name: str) -> bool:
    """Whether a name says what to call, to somebody who does not know the code it is from."""
    if name in _BUILTINS or "." not in name:
        return False
    return not any(part.startswith("_") for part in name.split("."))


def _call(name: str) -> str:
    """A label as one would write it; the object of a method is not known."""
    return f"<object>{name}()" if name.startswith(".") else f"{name}()"
