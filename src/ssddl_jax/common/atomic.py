"""Files that are written atomically, and folders with a single writing process."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import get_native_id
from typing import Any

from ssddl_jax.common.errors import ConfigError
from ssddl_jax.common.text import shown


@contextmanager
def beside(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """Yields a temporary file beside `path`, which replaces `path` when the block ends without an
    error and is deleted otherwise. `shared`: others may write `path` at the same time.

    To survive a power cut, the content must be on the disk before the block ends; `write_through`
    does that.
    """
    own = f"{get_native_id()}-" if shared else ""
    part = path.with_name(f".part-{own}{path.name}")
    try:
        yield part
        part.replace(path)
        _keep_names(path.parent)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_whole(path: Path, text: str) -> None:
    """Writes a text file atomically."""
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
    """Flushes a folder's entries to the disk."""
    with suppress(OSError):  # some file systems cannot
        held = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(held)
        finally:
            os.close(held)


@contextmanager
def only_writer(directory: Path) -> Iterator[None]:
    """Locks the directory, which is created if missing, against other runs. The lock ends with the
    process. Raises `ConfigError` while another process holds it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # this platform has no such locks
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
        remedy = "is in use by another process; wait for it, or end it"
        raise ConfigError("directory", directory, remedy) from error
