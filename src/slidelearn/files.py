"""Files that appear whole or not at all."""

import errno
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

__all__ = ["HashedFile", "atomic_write", "write_hashed"]

_CHUNK = 2**26  # bytes; the disk writes them in a fraction of a second


class HashedFile(NamedTuple):
    """A file that was written: its name, its size and its SHA-256 in hexadecimal digits."""

    name: str
    bytes: int
    sha256: str


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a binary stream whose bytes replace the file `path` when the block ends well.

    The bytes go to a hidden file in the same folder, are flushed to the disk and renamed. A block
    that raises leaves `path` as it was and no hidden file behind. A symbolic link is followed.

    Parameters
    ----------
    path : str or path-like
        The file to create or replace; its folder must exist.

    Yields
    ------
    BinaryIO
        A new, seekable stream.

    Raises
    ------
    OSError
        The folder does not exist, is not writable or is full.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> target = pathlib.Path(tempfile.mkdtemp()) / "note.txt"
    >>> with atomic_write(target) as stream:
    ...     _ = stream.write(b"whole")
    >>> target.read_bytes()
    b'whole'
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
    with _hidden(target.parent) as hidden:
        with open(hidden, "xb") as stream:
            yield stream
            _sync(stream)
        os.replace(hidden, target)


def write_hashed(
    folder: Path, name: Callable[[str], str], parts: Sequence[bytes | memoryview]
) -> HashedFile:
    """Write buffers, one behind the other, to a file whose name has a part of their checksum.

    It appears as one of `atomic_write` does. The checksum is taken beside the writing. Ctrl-C stops
    it within a chunk, since the disk is waited for after each: to wait for 1.6 GB at the end took
    up to 5 s, in which no signal was heard.

    Parameters
    ----------
    folder : Path
        Where to.
    name : callable
        Makes the name from the first 16 digits of the checksum.
    parts : sequence of buffers
        The content.

    Raises
    ------
    OSError
        The folder does not exist, is not writable or is full.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> written = write_hashed(folder, lambda digits: f"note-{digits}", [b"in ", b"parts"])
    >>> written.name, (folder / written.name).read_bytes()
    ('note-6e540971acafa5f5', b'in parts')
    """
    digest = hashlib.sha256()
    with _hidden(folder) as hidden, ThreadPoolExecutor(1) as beside:
        with open(hidden, "xb") as stream:
            for chunk in _chunks(parts):
                beside.submit(digest.update, chunk)
                stream.write(chunk)
                if len(chunk) == _CHUNK:
                    _sync(stream)
            _sync(stream)
        digits = beside.submit(digest.hexdigest).result()
        written = HashedFile(name(digits[:16]), hidden.stat().st_size, digits)
        os.replace(hidden, folder / written.name)
    return written


def _chunks(parts: Sequence[bytes | memoryview]) -> Iterator[memoryview]:
    """Cut buffers into pieces of `_CHUNK` bytes at most."""
    for part in parts:
        whole = memoryview(part).cast("B")
        for start in range(0, len(whole), _CHUNK):
            yield whole[start : start + _CHUNK]


@contextmanager
def _hidden(folder: Path) -> Iterator[Path]:
    """Name a new hidden file that must be renamed; it is removed where that fails."""
    hidden = folder / f".slidelearn-{secrets.token_hex(8)}.tmp"
    try:
        yield hidden
    except BaseException:
        hidden.unlink(missing_ok=True)
        raise
    if os.name == "posix":
        _sync_folder(folder)


def _sync(stream: BinaryIO) -> None:
    """Wait until what was written is on the disk."""
    stream.flush()
    os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
