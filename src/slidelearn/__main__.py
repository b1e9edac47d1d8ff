"""`python -m slidelearn` is the command `slide`."""

import sys

from slidelearn.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
