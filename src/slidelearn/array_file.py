"""Array files: named arrays as safetensors, written without a copy, mapped with shapes checked.

A mapped array is read from the disk, or the system's cache, where it is looked at; processes share
its memory. Whoever changes it changes a copy of that page, never the file. A file of more than half
of the memory that is left is read by the page; others come faster in longer pieces.
"""

import errno
import json
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from slidelearn.errors import ModelError
from slidelearn.machine import available_memory, read_by_page, read_in_large_pages

__all__ = ["ArrayFile", "encode_arrays"]

Shape: TypeAlias = tuple[int | None, ...]  # None stands for any length

_CODES = {
    "float32": "F32", "float64": "F64", "uint8": "U8", "int8": "I8", "int16": "I16",
    "int32": "I32", "int64": "I64", "uint64": "U64", "uint16": "BF16",  # NumPy has no bfloat16
}  # fmt: skip


def encode_arrays(
    arrays: dict[str, NDArray[Any]], note: str | None = None
) -> list[bytes | memoryview]:
    """Cut a safetensors file into buffers; those of arrays are the arrays themselves.

    Arrays of 8-byte numbers come first, so that each lies where its numbers may be read in place.

    Parameters
    ----------
    arrays : dict
        Arrays by name, of float32, float64, signed integers, uint8, uint64, or bits of bfloat16 as
        uint16.
    note : str, optional
        Text to go with them.

    Returns
    -------
    list of buffers
        To be written one behind the other.

    Examples
    --------
    >>> from safetensors.numpy import load
    >>> parts = encode_arrays({"a": np.arange(3), "b": np.zeros((0, 2))})
    >>> load(b"".join(parts))["a"]
    array([0, 1, 2])
    """
    header: dict[str, Any] = {} if note is None else {"__metadata__": {"note": note}}
    place = 0
    arrays = dict(sorted(arrays.items(), key=lambda item: -item[1].dtype.itemsize))
    for name, array in arrays.items():
        end = place + array.nbytes
        header[name] = {
            "dtype": _CODES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [place, end],
        }
        place = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    arrays_of_bytes = (
        np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).data
        for array in arrays.values()
        if array.size
    )
    return [len(text).to_bytes(8, "little"), text, *arrays_of_bytes]


class ArrayFile:
    """Maps the arrays of a safetensors file.

    Parameters
    ----------
    path : Path
        The file.
    trusted : bool
        For who reads it: whether somebody vouches for the content of the arrays. Header and shapes
        are checked in any case.

    Raises
    ------
    ModelError
        If the file is not safetensors, or shorter or longer than its header says.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "tiny.safetensors"
    >>> _ = path.write_bytes(b"".join(encode_arrays({"a": np.arange(3)})))
    >>> ArrayFile(path).take("a", np.int64, (3,))
    array([0, 1, 2])
    """

    def __init__(self, path: Path, *, trusted: bool = False) -> None:
        """Read the header and map the file."""
        self.path, self.trusted = path, trusted
        opener: Any = safe_open  # comes without types
        try:
            with opener(str(path), framework="numpy") as checked:  # the whole header fits the file
                self._names: set[str] = set(checked.keys())
            mapped = np.memmap(path, np.uint8, mode="c")
        except SafetensorError as error:
            raise ModelError(f"{path}: not a whole safetensors file ({error})") from None
        except OSError as error:
            hint = "; `ulimit -d` and `ulimit -v` count all of it"
            raise ModelError(
                f"{path}: cannot be mapped into memory ({error.strerror or error})"
                + hint * (error.errno == errno.ENOMEM)
            ) from None
        room = available_memory()
        if room is not None and mapped.nbytes > room // 2:
            read_by_page(mapped)
        else:
            read_in_large_pages(mapped)
        self._bytes = mapped.view(np.ndarray)
        self._start = 8 + int(self._bytes[:8].view("<u8")[0])
        self._header: dict[str, Any] = json.loads(self._bytes[8 : self._start].tobytes())

    @property
    def note(self) -> str:
        """The text that goes with the arrays; empty if there is none."""
        return str(self._header.get("__metadata__", {}).get("note", ""))

    def __contains__(self, name: str) -> bool:
        """Whether there is an array of this name."""
        return name in self._names

    def take(self, name: str, dtype: type[np.generic], shape: Shape) -> NDArray[Any]:
        """Map one array, or copy one that does not lie where its numbers may be read in place.

        Raises
        ------
        ModelError
            If the array is missing, or of another dtype or shape.
        """
        if name not in self._names:
            raise ModelError(f"{self.path}: the array {name} is missing; save the model again")
        entry = self._header[name]
        found = tuple(entry["shape"])
        fits = len(found) == len(shape) and all(
            want in (None, have) for want, have in zip(shape, found, strict=True)
        )
        if not fits or entry["dtype"] != _CODES[np.dtype(dtype).name]:
            wanted = "x".join("?" if want is None else str(want) for want in shape)
            have = "x".join(map(str, found))
            raise ModelError(
                f"{self.path}: the array {name} is {entry['dtype']} {have}, but config.json "
                f"calls for {_CODES[np.dtype(dtype).name]} {wanted}; the file fits another model"
            )
        start, end = entry["data_offsets"]
        array = self._bytes[self._start + start : self._start + end].view(dtype).reshape(found)
        return array if array.flags.aligned else array.copy()
