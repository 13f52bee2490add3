"""Replacing a run: the new one waits in a hidden folder until its first round is done."""

from contextlib import suppress
from pathlib import Path

from ssddl_jax.common.atomic import only_writer
from ssddl_jax.common.errors import ConfigError
from ssddl_jax.common.outputs import MARKER, WAITING, free, in_use, kind_of, mark

SETTLED = ".ssddl-next"  # the waiting folder's name once the replacement is committed


def waiting(directory: Path) -> Path:
    """The folder for a new run's config: the directory itself, or a hidden folder in it if the run
    will replace another. The caller holds the directory's lock.
    """
    complete(directory)
    _discard(directory / WAITING)
    if not in_use(directory):
        mark(directory, "run")
        return directory
    (directory / WAITING).mkdir()
    return directory / WAITING


def settle(directory: Path) -> None:
    """Replaces the directory's run with the one that waits in it."""
    (directory / WAITING).rename(directory / SETTLED)
    complete(directory)


def give_up(directory: Path) -> None:
    """Discards the run that waits in the directory, if any, and a marker that is left alone."""
    _discard(directory / WAITING)
    if directory.is_dir() and not in_use(directory):
        (directory / MARKER).unlink(missing_ok=True)


def complete(directory: Path) -> None:
    """Completes a committed replacement that was interrupted. The caller holds the lock."""
    settled = directory / SETTLED
    if not settled.is_dir() or kind_of(directory) is None:
        return
    if (settled / "config.toml").exists():
        free(directory)
        mark(directory, "run")
        (settled / "config.toml").replace(directory / "config.toml")
    _discard(settled)


def completed(directory: Path) -> None:
    """As `complete`, for readers; does nothing while another process holds the lock."""
    if (directory / SETTLED).is_dir():
        with suppress(ConfigError, OSError), only_writer(directory):
            complete(directory)


def _discard(folder: Path) -> None:
    for name in ("config.toml", ".part-config.toml"):
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()
