"""`python -m slidelearn` is the command `slide`."""

import os
import sys

from slidelearn.cli import main
from slidelearn.cli.interrupt import INTERRUPTED

__all__ = ["run"]


def run() -> None:
    """Run the command and end the process; after Ctrl-C without waiting for its threads."""
    code = main()
    if code == INTERRUPTED:  # whatever is to be kept has been written
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    run()
