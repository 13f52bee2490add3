"""The run directory: its name, its files, what is refused before anything is written.

config.toml     the complete config, and the environment that computed
metrics.jsonl   a line a round; metrics.csv the same without the groups' ids
checkpoints/    the last few (`ssddl_jax.checkpoints`)
summary.json    once the run is done
report.html     made from the files above (`ssddl_jax.report`)
"""

import json
import os
import shutil
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import tomli_w

from ssddl_jax.config import Config, read_toml
from ssddl_jax.environment import conditions, device_name, versions
from ssddl_jax.errors import ConfigError
from ssddl_jax.paths import check_path

_FILES = ("summary.json", "report.html", "metrics.jsonl", "metrics.csv")
_FOLDERS = ("checkpoints", "checkpoints-damaged", "tensorboard")
_NOTE = """\
# The seed is the simulator's escrow: it regenerates every key of this run, so that it
# can be replayed, and is no part of the privacy claim.
"""


def output_directory(config: Config) -> Path:
    """`out`, or a new name in runs/."""
    if config.out is not None:
        return Path(config.out)
    return new_directory(f"{config.protocol}-{Path(config.data).stem}")


def new_directory(what: str) -> Path:
    """A name in runs/ that does not exist yet."""
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{what}"
    names = [stem, *(f"{stem}-{i}" for i in range(2, 1000))]
    return next(Path("runs") / name for name in names if not (Path("runs") / name).exists())


def check_output(directory: Path, overwrite: bool) -> None:
    """Refuses an `out` that exists or cannot be made; writes nothing."""
    check_path("out", directory)
    if directory.exists() and not directory.is_dir():
        raise ConfigError("out", directory, "is a file; name a folder")
    if directory.exists() and any(directory.iterdir()) and not overwrite:
        raise ConfigError("out", directory, "exists already; choose another, or --overwrite")
    parent = directory.absolute()
    while not parent.exists():
        parent = parent.parent
    probe = parent / f".ssddl-probe-{time.monotonic_ns()}"
    try:
        if not parent.is_dir():
            raise NotADirectoryError(20, "Not a directory")
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        remedy = f"cannot be created: {parent}: {error.strerror}; choose a folder you can write to"
        raise ConfigError("out", directory, remedy) from error


def start_directory(directory: Path, config: Config, about: dict[str, Any]) -> None:
    """Frees the directory of an older run's files, and writes the config that replays this one.

    `about` goes to the table [environment], with device and versions.
    """
    for name in _FILES:
        (directory / name).unlink(missing_ok=True)
    for name in _FOLDERS:
        shutil.rmtree(directory / name, ignore_errors=True)
    write_config(config, directory / "config.toml", about)


def write_config(config: Config, path: Path, about: dict[str, Any] | None = None) -> None:
    """The complete config as TOML, with what computed; `--config` reads it back."""
    fields = {name: value for name, value in asdict(config).items() if value is not None}
    environment = {
        "device": device_name(),
        "versions": versions(),
        "conditions": conditions(),
        **(about or {}),
    }
    write_whole(path, _NOTE + tomli_w.dumps({**fields, "environment": environment}))


def write_whole(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def only_writer(directory: Path) -> Iterator[None]:
    """Holds the directory, which is made if need be, against other runs; a lock ends with its
    process. Raises `ConfigError` while another process holds it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # no such locks here
        yield
        return
    held = os.open(directory, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            _lock(fcntl, held, directory)
        yield
    finally:
        os.close(held)


def _lock(fcntl: Any, held: int, directory: Path) -> None:
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        remedy = "is being written by another process; wait for it, or end it"
        raise ConfigError("directory", directory, remedy) from error


def read_config(directory: Path) -> tuple[Config, dict[str, Any]]:
    """The config of a run directory, with `out` where it is now, and its [environment].
    Where `threads` was auto it is the number that this was.

    Raises `ConfigError` where it is not a run directory.
    """
    path = directory / "config.toml"
    if not directory.is_dir() or not path.exists():
        raise ConfigError("directory", directory, "is not a run directory: it has no config.toml")
    config = Config(**read_toml(path))
    environment = tomllib.loads(path.read_text()).get("environment", {})
    about = environment if isinstance(environment, dict) else {}
    if config.threads == "auto" and type(about.get("threads")) is int:  # what it was then
        config = replace(config, threads=about["threads"])
    return replace(config, out=str(directory)), about


def read_summary(directory: Path, config: Config) -> dict[str, Any] | None:
    """summary.json; None if the run is not done, as where `rounds` was raised in config.toml.

    Raises `ConfigError` if it is damaged.
    """
    path = directory / "summary.json"
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text())
        if not isinstance(found, dict) or not {"run_sha256", "rounds"} <= set(found):
            raise ValueError("it holds no run_sha256")
    except (OSError, ValueError) as error:
        remedy = f"summary.json is damaged ({error}); delete it, then: ssddl resume {directory}"
        raise ConfigError("directory", directory, remedy) from error
    return found if found["rounds"] == config.rounds else None


def read_rows(directory: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl. Raises `ConfigError` if it is damaged."""
    try:
        with (directory / "metrics.jsonl").open() as file:
            rows: list[dict[str, Any]] = [json.loads(line) for line in file]
            if not all(isinstance(row, dict) for row in rows):
                raise ValueError("a line is not an object")
    except (OSError, ValueError) as error:
        raise ConfigError("directory", directory, f"metrics.jsonl is damaged: {error}") from error
    return rows
