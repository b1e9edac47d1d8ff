"""slidelearn: train and search very wide output layers on a CPU."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slidelearn import errors
    from slidelearn.config import Config, TableConfig
    from slidelearn.datasets import Dataset, load_dataset, save_dataset
    from slidelearn.estimator import SlideClassifier

__version__ = "0.1.0"
__all__ = [
    "Config",
    "Dataset",
    "SlideClassifier",
    "TableConfig",
    "errors",
    "load",
    "load_dataset",
    "save_dataset",
]

# Where each public name lives; importing them all would take seconds.
_HOMES = {
    "Config": "slidelearn.config",
    "Dataset": "slidelearn.datasets",
    "SlideClassifier": "slidelearn.estimator",
    "TableConfig": "slidelearn.config",
    "load_dataset": "slidelearn.datasets",
    "save_dataset": "slidelearn.datasets",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name == "errors":
        return import_module("slidelearn.errors")
    if name not in _HOMES:
        raise AttributeError(f"module 'slidelearn' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted([*__all__, "__version__"])


def load(folder: Any, *, verify: bool = True) -> "SlideClassifier":
    """Read a fitted classifier from a model folder, also of the command line.

    Parameters
    ----------
    folder : str or path-like
        What `SlideClassifier.save` or ``slide train --model`` wrote.
    verify : bool
        False trusts the content of the files, so that a large model is there at once; for folders
        that have been read with True before.

    Raises
    ------
    ModelError
        If there is no model in the folder, or it is damaged or from a newer version.

    Examples
    --------
    >>> import tempfile
    >>> import slidelearn
    >>> folder = tempfile.mkdtemp()
    >>> slidelearn.SlideClassifier(epochs=1).fit([[1.0], [0.0]], ["a", "b"]).save(folder)
    >>> slidelearn.load(folder).classes_.tolist()
    ['a', 'b']
    """
    from slidelearn.estimator import SlideClassifier

    return SlideClassifier.load(folder, verify=verify)
