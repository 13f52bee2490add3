"""Files that are written whole or not at all, and folders that one process writes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ssddl_jax.common.errors import ConfigError
from ssddl_jax.common.text import shown


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A file beside `path` to write; it takes the other's place once all is written, or goes.

    What must outlast a power cut is on the disk before the block ends, as by `write_through`.
    """
    part = path.with_name(f".part-{path.name}")
    try:
        yield part
        part.replace(path)
        _keep_names(path.parent)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_whole(path: Path, text: str) -> None:
    """Writes a text file whole or not at all."""
    with beside(path) as part:
        write_through(part, text)


def write_through(path: Path, content: str | bytes) -> None:
    """Writes a file, text as UTF-8; it is on the disk when this returns."""
    content = content if isinstance(content, bytes) else shown(content).encode("utf-8")
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _keep_names(folder: Path) -> None:
    """Writes a folder's names to the disk."""
    with suppress(OSError):  # a file system that cannot
        held = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(held)
        finally:
            os.close(held)


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
