"""Readers of arrays from files: .npz archives, and MNIST's IDX files.

No pickle is opened, and every fault is a `DataError` of one line.
"""

from __future__ import annotations

import gzip
import math
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssddl_jax.common.errors import DataError

Array = NDArray[Any]

SPLITS = ("x_train", "y_train", "x_test", "y_test")
_OF_WRITERS = ("writers", "train_writers", "train_index")
_IDX = [(split, *what) for split in ("train", "t10k") for what in (("images", 3), ("labels", 1))]


class Reader(NamedTuple):
    """A kind of dataset on disk. A line in `config/sources.py` registers it."""

    takes: Callable[[Path], bool]  # whether an existing path is of this kind
    files: Callable[[Path], list[Path]]  # the files to read, in the reader's order
    read: Callable[[Path], dict[str, Array]]  # `SPLITS`, and `writers` [M] if known


def read_npz(path: Path, keys: Iterable[str]) -> dict[str, Array]:
    """Reads those of the keys that an archive has, as arrays. Never opens a pickle.

    Raises `DataError` if it is not an archive, or damaged.
    """
    if not path.is_file() or not zipfile.is_zipfile(path):  # /dev/zero never ends
        raise DataError(
            f"data = {str(path)!r} is not a complete .npz archive: one with {SPLITS} works"
        )
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: np.atleast_1d(archive[key]) for key in keys if key in archive}
    except Exception as error:  # a damaged archive can raise almost anything
        raise unreadable(path, error, "a complete .npz of plain arrays works") from error


def unreadable(path: Path, error: Exception, works: str) -> DataError:
    """The error for a file that its library cannot read, in one line."""
    why = " ".join(str(error).split()) or type(error).__name__
    return DataError(f"data = {str(path)!r} cannot be read ({why}): {works}")


def _read_idx_folder(folder: Path) -> dict[str, Array]:
    """Reads the four files in which MNIST was published, gzipped or not."""
    files = _idx_files(folder)
    return {
        key: _read_idx(path, ndim)
        for key, path, (*_, ndim) in zip(SPLITS, files, _IDX, strict=True)
    }


def _idx_files(folder: Path) -> list[Path]:
    """The four files in the order of `SPLITS`. Raises `DataError` if one is missing."""
    return [_idx_file(folder, *part) for part in _IDX]


def _idx_file(folder: Path, split: str, what: str, ndim: int) -> Path:
    names = [f"{split}-{what}{dot}idx{ndim}-ubyte{end}" for dot in "-." for end in ("", ".gz")]
    path = next((folder / name for name in names if os.path.isfile(folder / name)), None)
    if path is None:
        raise DataError(f"data = {str(folder)!r} lacks {names[0]}, or {', '.join(names[1:])}")
    return path


def _read_idx(path: Path, ndim: int) -> Array:
    """Reads IDX: two zero bytes, the element type, the number of axes, their sizes (big-endian)."""
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, error, "a complete IDX file works, gzipped or not") from error
    magic = bytes([0, 0, 8, ndim])
    if raw[:4] != magic:
        raise DataError(
            f"data = {str(path)!r} begins with 0x{raw[:4].hex()}: 0x{magic.hex()} works "
            f"(IDX, unsigned bytes, {ndim} axes)"
        )
    body = 4 + 4 * ndim
    shape = tuple(int.from_bytes(raw[at : at + 4], "big") for at in range(4, body, 4))
    if len(raw) != body + math.prod(shape):
        raise DataError(
            f"data = {str(path)!r} holds {len(raw)} bytes but its header promises shape {shape}: "
            f"{body + math.prod(shape)} bytes work, it was cut short or altered"
        )
    return np.frombuffer(raw, np.uint8, offset=body).reshape(shape)


NPZ = Reader(
    takes=lambda path: not path.is_dir(),
    files=lambda path: [path],
    read=lambda path: read_npz(path, (*SPLITS, *_OF_WRITERS)),
)
IDX = Reader(takes=Path.is_dir, files=_idx_files, read=_read_idx_folder)
