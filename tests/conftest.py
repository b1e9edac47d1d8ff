"""Set up before any test module is imported, and hence before Numba is."""

import hashlib
import importlib.util
import os
import tempfile
from pathlib import Path


def _kernel_cache():
    """A folder for compiled kernels that changes with any source file of the package.

    Numba does not notice when a helper in another file changes, so the folder has to.
    """
    spec = importlib.util.find_spec("slidelearn")
    digest = hashlib.sha256()
    for path in sorted(Path(spec.origin).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return Path(tempfile.gettempdir()) / "slidelearn-kernels" / digest.hexdigest()[:16]


os.environ.setdefault("NUMBA_CACHE_DIR", str(_kernel_cache()))
