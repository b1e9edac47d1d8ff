"""The model folder: config.json, the arrays it names as safetensors, and names as JSON.

Every file but config.json carries a part of its checksum in its name and is never changed;
config.json holds those checksums and one of itself. A save
writes new files beside the old ones, then replaces config.json, then removes what that no longer
names. So at every moment the folder holds one whole model, and files of others are left alone.
"""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from slidelearn.array_file import encode_arrays
from slidelearn.compacting import COMPACT_TYPES
from slidelearn.config import Config
from slidelearn.errors import ConfigError, ModelError
from slidelearn.files import atomic_write, write_hashed
from slidelearn.model import Model
from slidelearn.network_arrays import name_arrays, read_network

__all__ = ["FORMAT", "file_sizes", "load_model", "read_facts", "save_model"]

FORMAT = 1  # raise it whenever older versions would misread a folder

_Path = str | os.PathLike[str]
_CONFIG = "config.json"
_MOST_IDS = 2**31 - 1
_ENDINGS = {"weights": "safetensors", "labels": "json", "features": "json"}


class _Header(NamedTuple):
    """What config.json says, its types checked."""

    config: Config
    n_features: int
    n_labels: int
    facts: dict[str, Any]
    files: dict[str, Any]


def save_model(model: Model, folder: _Path) -> None:
    """Write a model into a folder, which is made if there is none; a model in it is replaced.

    Readers see the old model or the new one, also after a crash. Other files in the folder stay.

    Parameters
    ----------
    model : Model
        With the state of its optimizer, so that it can be trained further.
    folder : str or path-like
        Where to.

    Raises
    ------
    ModelError
        If the folder cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from scipy.sparse import csr_matrix
    >>> from slidelearn.datasets import Dataset
    >>> from slidelearn.fitting import fit_model
    >>> model = fit_model(Dataset(csr_matrix([[1.0]]), csr_matrix([[1]])), {"epochs": 1})
    >>> folder = tempfile.mkdtemp()
    >>> save_model(model, folder)
    >>> load_model(folder).network.n_labels
    1
    """
    folder = Path(folder)
    network = model.network
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files = {"weights": _write(folder, "weights", encode_arrays(name_arrays(model)))}
        for role, names in (("labels", model.label_names), ("features", model.feature_names)):
            if names is not None:
                files[role] = _write(folder, role, [json.dumps(names).encode()])
        header = {
            "format": FORMAT,
            "n_features": network.n_features,
            "n_labels": network.n_labels,
            "config": model.config.to_dict(),
            "facts": model.facts,
            "files": files,
        }
        header["checksum"] = _checksum(header)
        with atomic_write(folder / _CONFIG) as stream:
            stream.write(json.dumps(header, indent=2).encode() + b"\n")
        _remove_unused(folder, {entry["name"] for entry in files.values()})
    except OSError as error:
        raise ModelError(f"{folder}: cannot be written ({error.strerror})") from None


def load_model(folder: _Path, *, verify: bool = True) -> Model:
    """Read a model from a folder; every file is checked before it is used.

    Parameters
    ----------
    folder : str or path-like
        What `save_model` wrote.
    verify : bool
        False skips the checksums of arrays and names, and checks no id in them, which takes time in
        proportion to the model: 1.7 s where it has 1.7 GB, 0.01 s without. Only for folders that
        were checked before; a damaged one may then end the process.

    Raises
    ------
    ModelError
        If there is no model, a newer version wrote it, or a file is missing, damaged or does not
        fit the others.
    """
    folder = Path(folder)
    if not folder.is_dir():
        problem = "is a file, not a model folder" if folder.exists() else "there is no such folder"
        raise ModelError(f"{folder}: {problem}; name a folder that a training run has written")
    header = _read_header(folder / _CONFIG)
    files = header.files
    labels = _read_names(folder, files, "labels", header.n_labels, verify=verify)
    features = _read_names(folder, files, "features", header.n_features, verify=verify)
    path = _checked_file(folder, files, "weights", verify=verify)
    compact = header.facts.get("compact")
    if compact not in (None, *COMPACT_TYPES):
        raise ModelError(f"{folder / _CONFIG}: compact is {compact!r}, no type of weights")
    network, inverse_propensity = read_network(
        path,
        header.config,
        header.n_features,
        header.n_labels,
        compact=compact,
        trusted=not verify,
    )
    return Model(header.config, network, labels, features, inverse_propensity, header.facts)


def read_facts(folder: _Path) -> dict[str, Any]:
    """What a model folder says of the run that wrote it.

    Raises
    ------
    ModelError
        If there is no model, or a newer version wrote it.
    """
    return _read_header(Path(folder) / _CONFIG).facts


def file_sizes(folder: _Path) -> dict[str, int]:
    """Bytes of every file of a model, by name.

    Raises
    ------
    ModelError
        If there is no model, or a newer version wrote it.
    """
    folder = Path(folder)
    files = _read_header(folder / _CONFIG).files
    names = [_CONFIG, *(_checked_file(folder, files, role, verify=False).name for role in files)]
    return {name: (folder / name).stat().st_size for name in names}


def _write(folder: Path, role: str, parts: Sequence[bytes | memoryview]) -> dict[str, Any]:
    """Write buffers to a file that is named by their checksum; what config.json says about it."""
    return write_hashed(folder, lambda digits: f"{role}-{digits}.{_ENDINGS[role]}", parts)._asdict()


def _is_ours(role: str, name: Any) -> bool:
    """Whether a file name is one that `_write` makes, and hence stays in the folder."""
    pattern = rf"{role}-[0-9a-f]{{16}}\.{_ENDINGS[role]}"
    return isinstance(name, str) and re.fullmatch(pattern, name) is not None


def _remove_unused(folder: Path, used: set[str]) -> None:
    """Remove the files of earlier models."""
    for path in list(folder.iterdir()):
        if path.name not in used and any(_is_ours(role, path.name) for role in _ENDINGS):
            path.unlink(missing_ok=True)


def _read_json(path: Path) -> Any:
    if not path.is_file():
        raise ModelError(
            f"{path}: there is no such file; this is no model folder, or a part of one"
        )
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not a JSON file ({error})") from None


def _checksum(values: dict[str, Any]) -> str:
    """A checksum of plain values, however they are written down."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _read_header(path: Path) -> _Header:
    """Read config.json and check the type of everything in it."""
    values = _read_json(path)
    known = values.pop("checksum", None) if isinstance(values, dict) else None
    if known is not None and known != _checksum(values):  # the first versions wrote none
        raise ModelError(f"{path}: is not as it was saved; the file is damaged")
    version = values.get("format") if isinstance(values, dict) else None
    if type(version) is not int:
        raise ModelError(f"{path}: states no format; this file is not a model's")
    if version > FORMAT:
        raise ModelError(
            f"{path}: format {version} is newer than {FORMAT}, the newest that this version of "
            "slidelearn reads; upgrade slidelearn"
        )
    for name, kind in (("config", dict), ("facts", dict), ("files", dict)):
        if not isinstance(values.get(name), kind):
            raise ModelError(f"{path}: {name} is missing or of the wrong type")
    sizes = values.get("n_features"), values.get("n_labels")
    if not all(type(size) is int and 1 <= size <= _MOST_IDS for size in sizes):
        raise ModelError(
            f"{path}: n_features is {sizes[0]!r} and n_labels {sizes[1]!r}, expected whole numbers "
            f"from 1 to {_MOST_IDS}"
        )
    try:
        config = Config.from_dict(values["config"])
    except ConfigError as error:
        raise ModelError(f"{path}: {error}") from None
    return _Header(config, sizes[0], sizes[1], values["facts"], values["files"])


def _checked_file(folder: Path, files: dict[str, Any], role: str, *, verify: bool) -> Path:
    """Path of a file that config.json names, after comparing its size, and its checksum."""
    entry = files.get(role)
    name = entry.get("name") if isinstance(entry, dict) else None
    if not _is_ours(role, name):
        raise ModelError(f"{folder / _CONFIG}: the {role} file is {name!r}, no name of such a file")
    assert isinstance(entry, dict)
    path = folder / str(name)
    try:
        size = path.stat().st_size
        if size != entry.get("bytes"):
            raise ModelError(f"{path}: has {size} bytes, but config.json says {entry.get('bytes')}")
        if not verify:
            return path
        with open(path, "rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
    if digest != entry.get("sha256"):
        raise ModelError(f"{path}: the checksum is not that in config.json; the file is damaged")
    return path


def _read_names(
    folder: Path, files: dict[str, Any], role: str, size: int, *, verify: bool
) -> list[str] | None:
    """Names of labels or features, if the model has any."""
    if role not in files:
        return None
    path = _checked_file(folder, files, role, verify=verify)
    names = _read_json(path)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ModelError(f"{path}: not a list of strings")
    if len(names) != size:
        raise ModelError(f"{path}: holds {len(names)} names, but config.json says {size}")
    return names
