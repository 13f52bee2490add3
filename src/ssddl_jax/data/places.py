"""Where datasets lie: those with a name, and files and folders; no data are read here."""

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
    """A line of `ssddl data`: a name, where it was found (None: not here), how to get it."""

    name: str
    where: str | None
    how: str


def dataset_files(name: str) -> list[Path]:
    """The files that a dataset is read from; none if it comes with another package. Raises
    DataError as `check_dataset` does, and if a folder lacks one.
    """
    if name == "digits":
        return []
    path = dataset_path(name)
    return reader_of(path).files(path)


def reader_of(path: Path) -> Reader:
    """Who reads the file or folder at this path, which exists."""
    readers: list[Reader] = [resolve(name) for name in READERS.values()]
    return next(reader for reader in readers if reader.takes(path))


def check_dataset(name: str) -> None:
    """Raises DataError if nothing of that name is here; reads no data."""
    if name != "digits":
        dataset_path(name)


def dataset_path(name: str) -> Path:
    """Where a dataset lies. Raises DataError if it is unknown or absent."""
    if name in DATASETS:
        found = find(name, search_folders())
        if found is None:
            looked = ", ".join(str(folder) for folder in search_folders())
            raise DataError(f"data = {name!r} is not here (looked in {looked}): {DATASETS[name]}")
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
    """Every known name, where it lies here, and how to get it; reads no data."""
    found = {name: find(name, search_folders()) for name in DATASETS}
    where = {name: str(path) if path else None for name, path in found.items()}
    where["digits"] = "scikit-learn" if importlib.util.find_spec("sklearn") else None
    return [DatasetInfo(name, where[name], how) for name, how in DATASETS.items()]


def search_folders() -> list[Path]:
    """Where named data may lie, first hit wins: the package, SSDDL_DATA, then shared/data."""
    given = os.environ.get("SSDDL_DATA")
    named = [Path(os.path.expanduser(given))] if given else []
    around = [
        Path(os.path.normpath(base / up / "shared" / "data"))
        for base in (Path.cwd(), _CHECKOUT)
        for up in ("", "..")
    ]
    return list(dict.fromkeys([_HERE, *named, *around]))


def find(stem: str, folders: Iterable[Path]) -> Path | None:
    for folder in folders:
        if os.path.isfile(folder / f"{stem}.npz"):
            return folder / f"{stem}.npz"
        if os.path.isdir(folder / stem):
            return folder / stem
    return None
