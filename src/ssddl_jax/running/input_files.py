"""A run's input files: recorded by absolute path and SHA-256, and found again by both."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ssddl_jax.common.errors import ConfigError, DataError
from ssddl_jax.common.paths import user_path
from ssddl_jax.common.text import shown
from ssddl_jax.config.config import INPUTS, Config, is_path
from ssddl_jax.data.places import check_dataset, dataset_files, dataset_path


def absolute(config: Config) -> Config:
    """The config with its input files as absolute paths, valid from any working directory."""
    named: dict[str, Any] = {name: os.path.abspath(path) for name, path in _paths(config)}
    return replace(config, **named) if named else config


def relative(config: Config) -> dict[str, str]:
    """The input files that a config names by a relative path, as they are named."""
    return {name: path for name, path in _paths(config) if not os.path.isabs(path)}


def named_in(about: Mapping[str, Any]) -> dict[str, str]:
    """What `relative` found for the run with this record."""
    recorded = about.get("inputs")
    entries = recorded.items() if isinstance(recorded, dict) else ()
    return {
        name: str(entry["named"])
        for name, entry in entries
        if isinstance(entry, dict) and "named" in entry
    }


def record(
    config: Config, without: Iterable[str] = (), named: Mapping[str, str] | None = None
) -> dict[str, dict[str, str]]:
    """Absolute path and SHA-256 of every input that is a file or a folder of files; and the path
    in `named`, if it is there.
    """
    found = {}
    for name in INPUTS:
        value = getattr(config, name)
        files = [] if value is None or name in without else _files(name, value)
        if files:
            path = shown(os.path.abspath(_path(name, value)))
            found[name] = {"path": path, "sha256": _sha256(name, value)}
            if named and name in named:
                found[name]["named"] = shown(named[name])
    return found


def found_again(config: Config, about: Mapping[str, Any], directory: Path) -> Config:
    """A recorded config with its input files' current paths: where they were, in the run directory,
    or, if the run named a relative path, there in the working directory.

    Of several candidates, it takes the first with the recorded SHA-256, else the first. Raises
    `ConfigError` if there is none.
    """
    recorded, named = about.get("inputs"), named_in(about)
    moved: dict[str, Any] = {}
    for name in INPUTS:
        value, entry = getattr(config, name), {}
        if value is None or name in about.get("given", ()):
            continue
        if isinstance(recorded, dict) and isinstance(recorded.get(name), dict):
            entry = recorded[name]
        places = _places(name, value, entry, directory)
        if name in named and is_path(name, value):
            places.append(os.path.abspath(user_path(name, named[name])))
        moved[name] = _first(name, value, places, entry.get("sha256"))
    return replace(config, **moved)


def _places(name: str, value: str, entry: Mapping[str, Any], directory: Path) -> list[str]:
    """Where an input may be, the likeliest place first."""
    was = [user_path(name, str(entry["path"]))] if "path" in entry else []
    if not is_path(name, value):
        return [value, *was]
    own = [directory / Path(value).name, directory / value]
    places = [Path(value), *own] if os.path.isabs(value) else [*map(Path, was), *own, Path(value)]
    return list(dict.fromkeys(os.path.abspath(place) for place in places))


def _first(name: str, value: str, places: Sequence[str], sha256: str | None) -> str:
    """The first place whose content has this SHA-256, else the first with any content."""
    there = [place for place in places if _is_there(name, place)]
    if not there:
        remedy = f"is in none of {', '.join(places)}; put it in one of them"
        raise ConfigError(name, value, remedy)
    if len(there) == 1 or sha256 is None:
        return there[0]
    return next((place for place in there if _digest(name, place) == sha256), there[0])


def _is_there(name: str, place: str) -> bool:
    if is_path(name, place):
        return os.path.exists(place)
    try:
        check_dataset(place)
    except DataError:
        return False
    return True


def _digest(name: str, place: str) -> str | None:
    try:
        return _sha256(name, place)
    except (OSError, DataError):
        return None


def _paths(config: Config) -> Iterator[tuple[str, str]]:
    """The inputs that are given as a path."""
    for name in INPUTS:
        value = getattr(config, name)
        if value is not None and is_path(name, value):
            yield name, value


def _files(name: str, value: str) -> list[Path]:
    """The files that an input is read from; empty for a dataset that has no file of its own."""
    return dataset_files(value) if name == "data" else [Path(value)]


def _path(name: str, value: str) -> Path:
    """The file or folder of an input."""
    return dataset_path(value) if name == "data" else Path(value)


def _sha256(name: str, value: str) -> str:
    """The SHA-256 of a file's content. For a folder, the SHA-256 of the digests of its files, each
    preceded by the file's path if that contains a folder, whose name may be a label.
    """
    folder, digests = _path(name, value), []
    for path in _files(name, value):
        inside = path.relative_to(folder)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
        if path == folder:
            return digest.hexdigest()
        where = os.fsencode(inside.as_posix()) + b"\0" if len(inside.parts) > 1 else b""
        digests.append(where + digest.digest())
    return hashlib.sha256(b"".join(digests)).hexdigest()
