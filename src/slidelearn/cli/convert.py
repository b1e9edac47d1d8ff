"""`slide convert`: a dataset from one file format into another."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["convert"]


def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="The dataset to read.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write.")],
) -> None:
    """Convert a dataset: XMC text, svmlight (both also .gz, .zst), .npz, .parquet.

    The extensions name the formats. Nothing is repaired: a malformed line is an error.
    """
    from slidelearn.datasets import convert as convert_files

    convert_files(source, target)
