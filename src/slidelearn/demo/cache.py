"""The demo's cache: what it has learned, kept for the next time in the user's cache folder."""

import hashlib
import json
import os
import shutil
import sys
import tempfile
from importlib.metadata import distributions
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

import slidelearn
from slidelearn.demo.corpus import make_encoder
from slidelearn.demo.plan import Plan
from slidelearn.demo.report import Report
from slidelearn.model import Model
from slidelearn.model_file import load_model, save_model

__all__ = ["Learned", "cache_folder", "load_learned", "save_learned"]

_PREFIX = "demo-"
_UNUSABLE = (OSError, ValueError, TypeError, KeyError)  # SlideError is a ValueError


class Learned(NamedTuple):
    """A demo that has been trained."""

    model: Model
    encoder: TfidfVectorizer
    report: Report


def cache_folder(plan: Plan) -> Path:
    """Folder of a demo; another version, Python, set of packages or plan has another folder."""
    packages = sorted(f"{d.metadata['Name']}=={d.version}" for d in distributions())
    digest = hashlib.sha256(
        json.dumps([slidelearn.__version__, sys.version, packages, repr(plan)]).encode()
    )
    for source in sorted(Path(slidelearn.__file__).parent.rglob("*.py")):
        digest.update(source.read_bytes())  # an edited checkout keeps its version
    base = os.environ.get("XDG_CACHE_HOME", "")
    caches = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    return caches / "slidelearn" / f"{_PREFIX}{digest.hexdigest()[:16]}"


def load_learned(folder: Path) -> Learned | None:
    """What is kept in a folder, or None if that is nothing or cannot be used."""
    if not folder.is_dir():
        return None
    try:
        model = load_model(folder / "model")
        idf = np.load(folder / "idf.npy", allow_pickle=False)
        report = Report(**json.loads((folder / "report.json").read_text("utf-8")))
        encoder = make_encoder(vocabulary=model.feature_names)
        encoder.idf_ = idf
    except _UNUSABLE:
        return None
    return Learned(model, encoder, report)


def save_learned(learned: Learned, folder: Path) -> None:
    """Keep a demo, whole or not at all; those of other versions beside it are removed.

    Raises
    ------
    OSError, ModelError
        If the folder cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=folder.parent) as temporary:
        new = Path(temporary) / folder.name
        save_model(learned.model, new / "model")
        np.save(new / "idf.npy", learned.encoder.idf_)
        (new / "report.json").write_text(json.dumps(learned.report._asdict()), "utf-8")
        for old in folder.parent.glob(f"{_PREFIX}*"):
            shutil.rmtree(old, ignore_errors=True)
        os.rename(new, folder)
