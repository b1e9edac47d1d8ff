"""Files that appear whole or not at all."""

import errno
import hashlib
import mmap
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self

__all__ = ["HashedFile", "atomic_write", "write_hashed"]

_BLOCK = 4096  # bytes that a disk writes at a time, or a multiple of those
_CHUNK = 2**25  # bytes, a multiple of that; the disk writes them in a fraction of a second


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
            stream.flush()
            _sync(stream.fileno())
        os.replace(hidden, target)


def write_hashed(
    folder: Path, name: Callable[[str], str], parts: Sequence[bytes | memoryview]
) -> HashedFile:
    """Write buffers, one behind the other, to a file whose name has a part of their checksum.

    It appears as one of `atomic_write` does. The checksum is taken beside the writing. Ctrl-C stops
    it within a chunk.

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
        with _LargeFile(hidden) as file:
            for chunk in _chunks(parts):
                beside.submit(digest.update, chunk)
                file.write(chunk)
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


class _LargeFile:
    """A new file that goes to the disk past the system's cache, if the file system can do that.

    Through the cache, a disk that writes 2.7 GB a second took 0.4 to 0.5. There, every chunk is
    waited for: no signal is heard while the disk writes what the cache holds of a large file.
    """

    def __init__(self, path: Path) -> None:
        """Create the file."""
        self._chunk, self._filled, self._size = mmap.mmap(-1, _CHUNK), 0, 0
        how = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        self._uncached = getattr(os, "O_DIRECT", 0)
        try:
            self._file = os.open(path, how | self._uncached, 0o666)
        except OSError as error:
            if not self._uncached or error.errno != errno.EINVAL:
                raise
            path.unlink(missing_ok=True)  # some make a file before they refuse
            self._uncached = 0
            self._file = os.open(path, how, 0o666)

    def write(self, part: memoryview) -> None:
        """Write bytes behind the others."""
        while len(part):
            piece, part = part[: _CHUNK - self._filled], part[_CHUNK - self._filled :]
            self._chunk[self._filled : self._filled + len(piece)] = piece
            self._filled += len(piece)
            if self._filled == _CHUNK:
                self._flush()

    def __enter__(self) -> Self:
        """Begin to write."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Wait until all is on the disk, unless writing failed."""
        try:
            if kind is None:
                self._flush()
                os.ftruncate(self._file, self._size)
                _sync(self._file)
        finally:
            os.close(self._file)

    def _flush(self) -> None:
        """Write the chunk; past the cache in whole blocks, the rest of the last is cut off then."""
        sent, size = 0, self._filled
        if self._uncached:
            size = -(-size // _BLOCK) * _BLOCK
        while sent < size:
            try:
                sent += os.write(self._file, memoryview(self._chunk)[sent:size])
            except OSError as error:
                if not self._uncached or error.errno != errno.EINVAL:
                    raise
                self._use_cache()
        if not self._uncached:
            _sync(self._file)
        self._size, self._filled = self._size + self._filled, 0

    def _use_cache(self) -> None:
        """Go on as other files do, since the file system takes nothing else."""
        import fcntl  # which there is wherever one can write past the cache

        flags = fcntl.fcntl(self._file, fcntl.F_GETFL)
        fcntl.fcntl(self._file, fcntl.F_SETFL, flags & ~self._uncached)
        self._uncached = 0


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


def _sync(descriptor: int) -> None:
    """Wait until what was written to a file is on the disk."""
    os.fsync(descriptor)


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
