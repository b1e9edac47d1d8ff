"""`slide demo`: learn from the Python code on this machine, and answer questions about it."""

from typing import Annotated

import typer

__all__ = ["demo"]


def demo(
    ask: Annotated[
        str | None, typer.Option(metavar="WORDS", help='What to look for: "read a csv file".')
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", hidden=True, help="Few files, one epoch: a self-test.")
    ] = False,
) -> None:
    """Learn which functions one calls, from the Python code installed here; then ask it.

    Nothing is downloaded and nothing is executed: sources are only parsed.
    """
    from slidelearn.demo.plan import FULL, QUICK
    from slidelearn.demo.tour import run_tour

    run_tour(ask, plan=QUICK if quick else FULL, quiet=quiet)
