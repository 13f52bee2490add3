"""A run that replaces another: it waits in a hidden folder until its first round is done."""

from contextlib import suppress
from pathlib import Path

from ssddl_jax.common.atomic import only_writer
from ssddl_jax.common.errors import ConfigError
from ssddl_jax.common.outputs import MARKER, WAITING, free, in_use, kind_of, mark

SETTLED = ".ssddl-next"  # what the waiting folder is called once the change is settled


def waiting(directory: Path) -> Path:
    """Where a new run's config belongs: the directory itself, or, if there is something in it that
    the run will replace, a hidden folder there. The caller holds the directory's lock.
    """
    complete(directory)
    _discard(directory / WAITING)
    if not in_use(directory):
        mark(directory, "run")
        return directory
    (directory / WAITING).mkdir()
    return directory / WAITING


def settle(directory: Path) -> None:
    """The run that waits in the directory takes its place."""
    (directory / WAITING).rename(directory / SETTLED)
    complete(directory)


def give_up(directory: Path) -> None:
    """The run that waits in the directory, if there is one, will not take its place; a marker by
    itself goes, too.
    """
    _discard(directory / WAITING)
    if directory.is_dir() and not in_use(directory):
        (directory / MARKER).unlink(missing_ok=True)


def complete(directory: Path) -> None:
    """Ends a change that was settled and cut off. The caller holds the directory's lock."""
    settled = directory / SETTLED
    if not settled.is_dir() or kind_of(directory) is None:
        return
    if (settled / "config.toml").exists():
        free(directory)
        mark(directory, "run")
        (settled / "config.toml").replace(directory / "config.toml")
    _discard(settled)


def completed(directory: Path) -> None:
    """The same for those who only read, unless the change is under way."""
    if (directory / SETTLED).is_dir():
        with suppress(ConfigError, OSError), only_writer(directory):
            complete(directory)


def _discard(folder: Path) -> None:
    for name in ("config.toml", ".part-config.toml"):
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()
