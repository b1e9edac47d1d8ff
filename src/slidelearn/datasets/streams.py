"""Opening plain and compressed files, with every failure of the file as one DataError."""

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, cast

from slidelearn.errors import DataError
from slidelearn.files import atomic_write

__all__ = ["file_errors", "open_input", "open_output", "split_compression"]

_CODECS = {".gz": "gzip", ".zst": "zstd"}


def split_compression(path: str | os.PathLike[str]) -> tuple[str, str | None]:
    """Return the format's extension and the codec: `a.txt.gz` gives `(".txt", "gzip")`."""
    plain = Path(path)
    codec = _CODECS.get(plain.suffix.lower())
    if codec is not None:
        plain = plain.with_suffix("")
    return plain.suffix.lower(), codec


@contextmanager
def file_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what the system says about the file `path` into a one-line DataError."""
    try:
        yield
    except EOFError:
        raise DataError(f"{path}: the gzip data are truncated") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: the gzip data are damaged ({error})") from None
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise DataError(f"{path}: {reason[:1].lower()}{reason[1:]}") from None


@contextmanager
def open_input(path: str | os.PathLike[str]) -> Iterator[BufferedReader]:
    """Open a file for reading, decompressed when its name ends in .gz or .zst.

    Raises DataError, also later while reading, where the file is missing, truncated or corrupt.
    """
    with file_errors(path), open(path, "rb") as raw:
        codec = split_compression(path)[1]
        if codec is None:
            yield raw
            return
        if codec == "gzip":
            with gzip.GzipFile(fileobj=raw) as unzipped:
                yield BufferedReader(cast(Any, unzipped))
            return
        # PyArrow notices truncated zstd data, the zstandard package does not. Imported here:
        # that takes a third of a second, and 30 MB.
        import pyarrow as pa

        with pa.CompressedInputStream(raw, codec) as stream:
            yield BufferedReader(cast(Any, stream))


@contextmanager
def open_output(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file for writing, compressed by its name; it appears whole or not at all."""
    with file_errors(path), atomic_write(path) as raw:
        codec = split_compression(path)[1]
        if codec is None:
            yield raw
        elif codec == "gzip":
            # No name and no time inside: equal datasets make equal files.
            with gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as stream:
                yield cast(BinaryIO, stream)
        else:
            import zstandard

            compressor = zstandard.ZstdCompressor(level=6, write_checksum=True)
            with compressor.stream_writer(raw, closefd=False) as writer:
                yield cast(BinaryIO, writer)
