"""Finds datasets, by name or path. Reads no data."""

from __future__ import annotations

import difflib
import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ssddl_jax.common.errors import DataError
from ssddl_jax.common.lazily import resolve
from ssddl_jax.config.sources import DATASETS, READERS, WORKS
from ssddl_jax.data.files import Reader

_HERE = Path(__file__).parent
_CHECKOUT = _HERE.parents[2]


class DatasetInfo(NamedTuple):
    """A line of `ssddl data`: a name, where it was found (None: nowhere), how to get it."""

    name: str
    where: str | None
    how: str


def dataset_files(name: str) -> list[Path]:
    """The files of a dataset; none if it comes with another package.

    Raises `DataError` as `check_dataset` does, and if a folder lacks a file.
    """
    if name == "digits":
        return []
    path = dataset_path(name)
    return reader_of(path).files(path)


def reader_of(path: Path) -> Reader:
    """The reader of the file or folder at an existing path."""
    readers: list[Reader] = [resolve(name) for name in READERS.values()]
    return next(reader for reader in readers if reader.takes(path))


def check_dataset(name: str) -> None:
    """Raises `DataError` if there is no dataset of that name or path. Reads no data."""
    if name != "digits":
        dataset_path(name)


def dataset_path(name: str) -> Path:
    """The path of a dataset. Raises `DataError` if it is unknown or absent."""
    if name in DATASETS:
        found = find(name, search_folders())
        if found is None:
            looked = ", ".join(str(folder) for folder in search_folders())
            raise DataError(f"data = {name!r} was not found (looked in {looked}): {DATASETS[name]}")
        return found
    path = Path(os.path.expanduser(name))
    if name and os.path.exists(path):
        return path
    close = difflib.get_close_matches(path.name, DATASETS, n=1)
    where = "" if os.path.isabs(path) else f" (looked for {path.absolute()})"
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise DataError(
        f"data = {name!r} is neither a known name nor a file that exists{where}: {hint}"
        f"{WORKS} works"
    )


def list_datasets() -> list[DatasetInfo]:
    """Every known name, its path on this machine, and how to get it. Reads no data."""
    found = {name: find(name, search_folders()) for name in DATASETS}
    where = {name: str(path) if path else None for name, path in found.items()}
    where["digits"] = "scikit-learn" if importlib.util.find_spec("sklearn") else None
    return [DatasetInfo(name, where[name], how) for name, how in DATASETS.items()]


def search_folders() -> list[Path]:
    """The folders to search for named datasets, in order: package, SSDDL_DATA, shared/data."""
    given = os.environ.get("SSDDL_DATA")
    named = [Path(os.path.expanduser(given))] if given else []
    around = [
        Path(os.path.normpath(base / up / "shared" / "data"))
        for base in (Path.cwd(), _CHECKOUT)
        for up in ("", "..")
    ]
    return list(dict.fromkeys([_HERE, *named, *around]))


def find(stem: str, folders: Iterable[Path]) -> Path | None:
    """The first STEM.npz or STEM/ in these folders."""
    for folder in folders:
        if os.path.isfile(folder / f"{stem}.npz"):
            return folder / f"{stem}.npz"
        if os.path.isdir(folder / stem):
            return folder / stem
    return None
