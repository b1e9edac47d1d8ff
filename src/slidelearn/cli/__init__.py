"""The command line `slide`: parse -> call -> print, one module a command.

Only what a command promises goes to standard output; progress, notes and errors go to standard
error. The commands import the engine when they run, so that `slide --help` answers at once.
"""

import sys
from collections.abc import Sequence

import typer

from slidelearn.cli.compact import compact
from slidelearn.cli.convert import convert
from slidelearn.cli.demo import demo
from slidelearn.cli.evaluate import evaluate
from slidelearn.cli.inspect import inspect
from slidelearn.cli.predict import predict
from slidelearn.cli.train import train
from slidelearn.errors import SlideError

__all__ = ["app", "main"]

app = typer.Typer(
    name="slide",
    help="Train and search very wide output layers on a CPU.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (train, evaluate, predict, inspect, compact, convert, demo):
    app.command()(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0: done. 1: a user's mistake or a failure of the system, one line on standard error. 2: wrong
    usage. 130: Ctrl-C.

    Parameters
    ----------
    arguments : sequence of str, optional
        The words after `slide`; by default those that the process was given.

    Examples
    --------
    >>> main(["inspect", "no/such/folder"])
    1
    """
    try:
        app(None if arguments is None else list(arguments), prog_name="slide")
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else 0
    except SlideError as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(_system_message(error))
    except MemoryError as error:
        return _fail(f"out of memory ({error})" if str(error) else "out of memory")
    return 0


def _fail(message: str) -> int:
    """Print one line, whatever the message holds."""
    print("slide: error:", " ".join(message.split()), file=sys.stderr)
    return 1


def _system_message(error: OSError) -> str:
    """What the system refused, as `file: reason`."""
    reason = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {reason}" if error.filename is not None else reason
