"""The functions of all installed Python packages, and the learning problem that they make.

An example is a function. Its features are the words of its name, of the classes and functions
around it, of its parameters and of its docstring; its labels are the names that it calls. The body
gives the labels and nothing else, so what is to be predicted is not among the features.
"""

import contextlib
import gc
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer

from slidelearn.datasets import Dataset, as_csr_features, as_csr_labels
from slidelearn.demo.functions import Function, functions_of, split_words
from slidelearn.errors import DataError

__all__ = ["Corpus", "Problem", "collect", "make_encoder", "vectorise"]

# Tests call what they test and little else; vendored copies would be in training and held out.
_PASSED_OVER = frozenset(
    {"__pycache__", "idle_test", "test", "test_data", "testdata", "tests"}
    | {"_extern", "_external", "_vendor", "_vendored"}
    | {"extern", "externals", "third_party", "vendor", "vendored"}
)
_LARGEST_FILE = 2_000_000  # bytes; what is larger is data
_UNREADABLE = (OSError, SyntaxError, ValueError, RecursionError, MemoryError)


class Corpus(NamedTuple):
    """Functions read from source files; the lists run in parallel, in the order of reading."""

    names: list[str]  # package.module.Class.method
    texts: list[str]  # lower-case words, separated by spaces
    calls: list[list[str]]  # names called, each once
    files: list[int]  # number of the file that the function is in
    n_files: int  # files read
    n_skipped: int  # files that could not be read or parsed
    n_duplicates: int  # functions left out because an equal one was read before
    packages: list[str]  # top-level packages and modules, in the order of reading


class Problem(NamedTuple):
    """A corpus as matrices; the held-out functions are from files that are not in training."""

    train: Dataset
    test: Dataset
    encoder: TfidfVectorizer  # encoder.transform(["any words"]) -> csr_matrix (1, n_features)


def collect(
    roots: Sequence[Path] | None = None, *, max_functions: int = 60_000, seconds: float = 60.0
) -> Corpus:
    """Read the functions of all Python sources under some folders.

    Files come in a fixed order: root by root, each sorted by name. Tests, vendored copies, files
    over 2 MB and links back to a folder already read are passed over. Sources are only parsed:
    nothing is imported, nothing executed.

    Parameters
    ----------
    roots : sequence of Path, optional
        Folders that hold packages; by default the standard library, then every `site-packages`
        folder of this interpreter.
    max_functions : int
        Stop after the file that brings the number of functions to this.
    seconds : float
        Stop after the file that is being read at this time. A corpus that was stopped by the clock
        depends on the machine's speed.

    Returns
    -------
    Corpus

    Raises
    ------
    DataError
        If no function is found.

    Examples
    --------
    >>> import json
    >>> corpus = collect([Path(json.__file__).parent])
    >>> "decoder.JSONDecoder.decode" in corpus.names
    True
    """
    folders = _installed() if roots is None else [Path(root) for root in roots]
    deadline = time.monotonic() + seconds
    functions: list[Function] = []
    files: list[int] = []
    packages: dict[str, None] = {}
    seen: set[tuple[str, ...]] = set()
    n_files = n_skipped = n_duplicates = 0
    with _collector_paused():
        for path, module in _modules(folders):
            try:
                found = _read(path, module)
            except _UNREADABLE:
                n_skipped += 1
                continue
            for function in found:
                fingerprint = _fingerprint(function)
                if fingerprint in seen:
                    n_duplicates += 1
                    continue
                seen.add(fingerprint)
                functions.append(function)
                files.append(n_files)
            n_files += 1
            packages[module.partition(".")[0]] = None
            if len(functions) >= max_functions or time.monotonic() > deadline:
                break
    if not functions:
        raise DataError(
            f"no function that calls anything in {', '.join(map(str, folders)) or 'no folder'}; "
            "name folders that hold Python packages"
        )
    names, texts, calls = (list(column) for column in zip(*functions, strict=True))
    return Corpus(
        names, texts, calls, files, n_files, n_skipped, n_duplicates, packages=list(packages)
    )


def vectorise(corpus: Corpus, seed: int = 0, *, min_count: int = 1) -> Problem:
    """Turn a corpus into sparse matrices, a tenth of the files held out.

    Features are tf-idf weights, rows of length 1, of words that at least two training functions
    have. Labels are the names that training functions call; a held-out function that calls only
    other names keeps its row, without labels, and counts as misses.

    Parameters
    ----------
    corpus : Corpus
        From `collect`.
    seed : int
        Draws the files that are held out.
    min_count : int
        Training functions that must call a name before it becomes a label.

    Returns
    -------
    Problem
        Datasets `train` and `test`, and the `encoder` of words.

    Raises
    ------
    DataError
        If the corpus has functions of one file only, or training shares no word or label.

    Examples
    --------
    >>> import email
    >>> problem = vectorise(collect([Path(email.__file__).parent]))
    >>> problem.encoder.transform(["decode header"]).shape[1] == problem.train.X.shape[1]
    True
    """
    files = np.asarray(corpus.files)
    distinct = np.unique(files)
    if len(distinct) < 2:
        raise DataError("the functions are all from 1 file; read 2 or more, to hold some out")
    shuffled = np.random.default_rng(seed).permutation(distinct)
    held_out = np.isin(files, shuffled[: max(1, len(distinct) // 10)])
    rows = np.flatnonzero(~held_out), np.flatnonzero(held_out)

    counts = Counter(name for row in rows[0] for name in corpus.calls[row])
    label_names = sorted(name for name, count in counts.items() if count >= min_count)
    if not label_names:
        raise DataError(f"no name is called by {min_count} training functions; lower min_count")
    encoder = make_encoder()
    try:
        X_train = encoder.fit_transform([corpus.texts[row] for row in rows[0]])
    except ValueError:
        raise DataError(
            f"no word is shared by 2 of {len(rows[0])} training functions; read more files"
        ) from None
    X_test = encoder.transform([corpus.texts[row] for row in rows[1]])
    feature_names = encoder.get_feature_names_out().tolist()
    ids = {name: number for number, name in enumerate(label_names)}
    train, test = (
        Dataset(
            X=as_csr_features(X),
            Y=_label_matrix([corpus.calls[row] for row in part], ids),
            label_names=label_names,
            feature_names=feature_names,
        )
        for X, part in zip((X_train, X_test), rows, strict=True)
    )
    return Problem(train, test, encoder)


def make_encoder(vocabulary: list[str] | None = None) -> TfidfVectorizer:
    """Make the encoder of words, to be fitted; or for known words, which then only needs `idf_`.

    Examples
    --------
    >>> encoder = make_encoder(["array", "sort"])
    >>> encoder.idf_ = np.ones(2)
    >>> encoder.transform(["sortInPlace"]).toarray().tolist()
    [[0.0, 1.0]]
    """
    return TfidfVectorizer(
        analyzer=split_words,
        min_df=2 if vocabulary is None else 1,
        sublinear_tf=True,
        dtype=np.float32,
        vocabulary=vocabulary,
    )


def _label_matrix(calls: list[list[str]], ids: dict[str, int]) -> csr_matrix:
    rows = [[ids[name] for name in names if name in ids] for names in calls]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    indices = np.array([label for row in rows for label in row], dtype=np.int64)
    ones = np.ones(len(indices), dtype=np.uint8)
    return as_csr_labels(csr_matrix((ones, indices, indptr), shape=(len(rows), len(ids))))


def _installed() -> list[Path]:
    """The standard library, then the folders that packages are installed in."""
    packages = [p for p in map(Path, sys.path) if p.name in ("site-packages", "dist-packages")]
    return [Path(sysconfig.get_path("stdlib")), *packages]


def _modules(roots: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Path and dotted name of every source under the roots, each folder once, sorted."""
    visited: set[Path] = set()
    for root in roots:
        yield from _modules_in(root, "", visited)


def _modules_in(folder: Path, package: str, visited: set[Path]) -> Iterator[tuple[Path, str]]:
    real = folder.resolve()
    if real in visited:
        return
    visited.add(real)
    try:
        entries = sorted(folder.iterdir())
    except OSError:  # gone, or not ours to read
        return
    for entry in entries:
        name = entry.stem if entry.suffix == ".py" else entry.name
        if not name.isidentifier() or name in _PASSED_OVER:
            continue
        module = f"{package}.{name}" if package else name
        if entry.suffix != ".py":
            if entry.is_dir():
                yield from _modules_in(entry, module, visited)
        elif not (name.startswith("test_") or name.endswith("_test") or name == "conftest"):
            yield entry, package if package and name == "__init__" else module


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """Keep the garbage collector from visiting syntax trees, which hold no cycles."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _read(path: Path, module: str) -> list[Function]:
    if path.stat().st_size > _LARGEST_FILE:
        raise ValueError(f"{path} has over {_LARGEST_FILE} bytes")
    return functions_of(path.read_bytes(), module, is_package=path.name == "__init__.py")


def _fingerprint(function: Function) -> tuple[str, ...]:
    """Equal for copies of a function, also where the copy's package has another name."""
    return (function.text, *(name.rpartition(".")[2] for name in function.calls))
