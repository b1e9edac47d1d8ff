"""The tour: learn from the Python code on this machine which functions one calls, then ask."""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console

from slidelearn.compiling import compile_kernels
from slidelearn.config import Config
from slidelearn.demo.answers import find, print_answer
from slidelearn.demo.cache import Learned, cache_folder, load_learned, save_learned
from slidelearn.demo.corpus import Problem, collect, vectorise
from slidelearn.demo.plan import FULL, Plan
from slidelearn.demo.report import measure, print_report
from slidelearn.display import TrainingDisplay, answer_console, note_console
from slidelearn.errors import SlideError
from slidelearn.fitting import FitEvents, fit_model

__all__ = ["run_tour"]

_EXAMPLES = ("read a csv file", "solve a linear system", "open a socket and send bytes")
_MANY = 2**20  # more features and labels than the tiny problem that kernels are compiled on
_TRAINED = 75.0  # seconds after its beginning by which the demo has trained, if it can
_READ_TIMEOUT = 600.0


def run_tour(ask: str | None = None, *, plan: Plan = FULL, quiet: bool = False) -> None:
    """Train or fetch the demo's model, report how good it is, and answer questions.

    The report and the answers go to standard output, everything else to standard error.

    Parameters
    ----------
    ask : str, optional
        Words to answer first; by default a few examples.
    plan : Plan
        How much to read and how long to train.
    quiet : bool
        Show no progress.

    Raises
    ------
    DataError
        If no Python source is found.
    """
    notes, answers = note_console(quiet=quiet), answer_console()
    folder = cache_folder(plan)
    learned = load_learned(folder)
    if learned is None:
        learned = _learn(plan, notes)
        _keep(learned, folder, notes)
    else:
        notes.print(f"learned before: {folder} (remove it to learn anew)")
    print_report(learned.report, answers)
    for words in [ask] if ask is not None else _EXAMPLES:
        print_answer(words, find(learned, words), answers)
    if sys.stdin.isatty() and sys.stdout.isatty():
        _converse(learned, answers)


def _learn(plan: Plan, notes: Console) -> Learned:
    """Read, train and measure.

    Reading and compiling take about half a minute each, so another process reads meanwhile.
    """
    began = time.monotonic()
    with get_context("spawn").Pool(1, _leave_interrupts_to_parent) as pool:
        reading = pool.apply_async(_read, (plan,))
        with _stage(notes, "compiling, the first time only; reading the Python code installed"):
            compile_kernels(Config.from_dict(plan.settings), _MANY, _MANY)
            problem = reading.get(_READ_TIMEOUT)
    n, n_labels = problem.train.Y.shape
    elapsed = time.monotonic() - began
    notes.print(f"{n:,} functions that call {n_labels:,} names ({elapsed:.0f} s)")
    shares = [0.0]
    with TrainingDisplay(plan.settings["epochs"], notes) as display:

        def note(epoch: dict) -> None:
            display.show_epoch(epoch)
            shares[0] = epoch["active_share"][-1]

        model = fit_model(
            problem.train,
            plan.settings,
            time_limit=_training_seconds(plan, elapsed),
            events=FitEvents(display.show_progress, note),
        )
    if model.facts["interrupted"]:
        raise KeyboardInterrupt
    with _stage(notes, "comparing with the baselines on held-out functions"):
        report = measure(model, problem, plan.held_out, shares[0])
    return Learned(model, problem.encoder, report)


def _training_seconds(plan: Plan, elapsed: float) -> float:
    """Seconds to train: those of the plan, but a third of them where the machine is slow.

    Examples
    --------
    >>> plan = Plan(train_seconds=30.0)
    >>> [_training_seconds(plan, elapsed) for elapsed in (40, 60, 90)]
    [30.0, 15.0, 10.0]
    """
    return min(plan.train_seconds, max(_TRAINED - elapsed, plan.train_seconds / 3))


def _leave_interrupts_to_parent() -> None:
    """Ctrl-C reaches both processes; the parent ends the child."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _read(plan: Plan) -> Problem:
    """The learning problem of a plan."""
    roots = None if plan.roots is None else [Path(root) for root in plan.roots]
    corpus = collect(roots, max_functions=plan.max_functions, seconds=plan.read_seconds)
    return vectorise(corpus, min_count=plan.min_count)


@contextmanager
def _stage(notes: Console, what: str) -> Iterator[None]:
    """Say what is being done; with a spinner, in a terminal."""
    if not notes.is_terminal:
        notes.print(what)
        yield
        return
    with notes.status(what):
        yield


def _keep(learned: Learned, folder: Path, notes: Console) -> None:
    """Save what was learned; the demo goes on without."""
    try:
        save_learned(learned, folder)
    except (OSError, SlideError) as error:
        notes.print(f"not kept for the next time: {error}")
    else:
        notes.print(f"kept for the next time in {folder}")


def _converse(learned: Learned, answers: Console) -> None:
    """Answer words typed by a person, until an empty line or the end of the input."""
    answers.print("\nWhat are you looking for? An empty line ends.")
    while True:
        try:
            words = answers.input("> ").strip()
        except EOFError:
            return
        if not words:
            return
        print_answer(words, find(learned, words), answers)
