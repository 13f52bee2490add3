"""What commands write into, and what is theirs there: no file of anybody else's is ever touched.

A folder is ours if it holds our marker, or version one's `config.toml`; an empty one is free. Where
a new run replaces an old one, it waits in a hidden folder until its first round is done; then that
folder gets another name, which settles it: from then on whoever opens the directory completes the
change. So a directory is the old run, whole, or a new one that can be resumed.
"""

import json
import os
import re
import shlex
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from ssddl_jax.common.atomic import beside, write_through
from ssddl_jax.common.errors import ConfigError
from ssddl_jax.common.paths import check_path

MARKER = ".ssddl"
WAITING = ".ssddl-new"  # a folder of a run that is to replace another
CHECKPOINTS, ASIDE = "checkpoints", "checkpoints-damaged"  # and where those go that are not used
_CHECKPOINT = re.compile(r"(\.part-)?([0-9]{6}|[1-9][0-9]{6,})\.npz")
_ORBAX = (  # checkpoints of earlier versions: only to be removed
    rf"({CHECKPOINTS}|{ASIDE})/\d+[^/]*/(.*/)?(_CHECKPOINT_METADATA|_METADATA|_sharding"
    r"|metadata|commit_success\.txt|manifest\.ocdbt|[0-9a-f]{32}|process_\d+)"
)
_RUN = (
    r"(\.part-)?(config\.toml|summary\.json|report\.html|metrics\.jsonl|metrics\.csv)"
    rf"|{CHECKPOINTS}/{_CHECKPOINT.pattern}|{ASIDE}/[0-9]{{6,}}-[0-9]+\.npz|{_ORBAX}"
    r"|model/(\.part-)?(params\.npz|params\.msgpack|model\.json)"
    r"|tensorboard/events\.out\.tfevents\.[^/]*"
)
_NAMES = {"run": _RUN} | {
    kind: rf"(\.part-)?{kind}\.(json|md|png)" for kind in ("compare", "attack", "scale")
}
_FOLDERS = (CHECKPOINTS, ASIDE, "model", "tensorboard")


def kind_of(directory: Path) -> str | None:
    """What made the folder: run, compare, attack, scale; None if it is not ours."""
    with suppress(OSError, ValueError):
        marked = re.fullmatch(r"ssddl_jax (\w+)\n", (directory / MARKER).read_text("utf-8"))
        if marked and marked[1] in _NAMES:
            return marked[1]
    with suppress(OSError, ValueError, KeyError, TypeError):
        about: Any = tomllib.loads((directory / "config.toml").read_text("utf-8-sig"))
        if "ssddl-jax" in about["environment"]["versions"]:
            return "run"
    return None


def check_output(directory: Path, overwrite: bool, kind: str = "run") -> None:
    """Refuses an `out` that is somebody else's, that exists, or that cannot be made; writes
    nothing. `kind`: what will be written.
    """
    check_path("out", directory)
    if directory.exists() and not directory.is_dir():
        raise ConfigError("out", directory, "is a file; name a folder")
    if in_use(directory):
        was = kind_of(directory)
        if was is None:
            remedy = "is not empty, and no command of ours made it; name another folder"
            raise ConfigError("out", directory, remedy)
        if not overwrite:
            raise ConfigError("out", directory, "exists already; choose another, or --overwrite")
        if was != kind:
            for path in _ours(directory, kind):  # its name is free for anybody here
                remedy = f"{path} is not ours, and would be replaced; move it away"
                raise ConfigError("out", directory, remedy)
        check_contents("out", directory)
    parent = directory.absolute()
    while not parent.exists():
        parent = parent.parent
    probe = parent / f".ssddl-probe-{os.getpid()}-{time.monotonic_ns()}"
    try:
        if not parent.is_dir():
            raise NotADirectoryError(20, "Not a directory")
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        remedy = f"cannot be created: {parent}: {error.strerror}; choose a folder you can write to"
        raise ConfigError("out", directory, remedy) from error


def check_run(directory: Path) -> None:
    """Refuses a folder that no run made, although it has a config.toml: nothing is written there,
    and nothing in it is taken for a run's.
    """
    if kind_of(directory) != "run":
        start = f"ssddl run --config {shlex.quote(str(directory / 'config.toml'))}"
        remedy = f"is not a run directory: no run of ours made it; start one with: {start}"
        raise ConfigError("directory", directory, remedy)


def check_contents(field: str, directory: Path) -> None:
    """Refuses a run directory in which a run would remove or replace what is not ours: a folder or
    a link that is named as a checkpoint, whose turn to go would come, and what a link leads to.
    """
    for name in ("model", "tensorboard"):
        if (directory / name).is_symlink():
            remedy = f"{directory / name} is a link, and what it leads to is not ours; remove it"
            raise ConfigError(field, directory, remedy)
    for entry in _named_as_checkpoints(directory):
        if not entry.is_file(follow_symlinks=False):
            remedy = f"{entry.path} is not a checkpoint of ours, and looks like one; move it away"
            raise ConfigError(field, directory, remedy)


def in_use(directory: Path) -> bool:
    return directory.is_dir() and any(
        entry.name not in (WAITING, MARKER) for entry in directory.iterdir()
    )


def checkpoints_in(directory: Path) -> tuple[dict[int, Path], list[Path]]:
    """A run's checkpoints, by their rounds, and those that a killed process left unfinished."""
    done: dict[int, Path] = {}
    unfinished = []
    for entry in _named_as_checkpoints(directory):
        path = Path(entry.path)
        if entry.name.startswith("."):
            unfinished.append(path)
        else:
            done[int(path.stem)] = path
    return done, unfinished


def _named_as_checkpoints(directory: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory / CHECKPOINTS) as entries:
            return [entry for entry in entries if _CHECKPOINT.fullmatch(entry.name)]
    except (FileNotFoundError, NotADirectoryError):
        return []


@contextmanager
def output(given: str | Path | None, what: str, overwrite: bool) -> Iterator[Path]:
    """The folder to write into, checked: the one given, or a new one in runs/, which is made at
    once, so that no other process takes its name, and removed if nothing was written into it.
    """
    if given is not None:
        check_output(Path(given), overwrite, what if what in _NAMES else "run")
        yield Path(given)
        return
    there = Path("runs").exists()
    directory = new_directory(what)
    try:
        yield directory
    finally:
        with suppress(OSError):  # only if they are empty
            directory.rmdir()
            if not there:
                directory.parent.rmdir()


def name_of(config: Any) -> str:
    """What a new folder for a run is called, after the time."""
    return f"{config.protocol}-{Path(config.data).stem}"


def new_directory(what: str) -> Path:
    """Makes a folder in runs/ whose name nothing had. Raises `ConfigError`."""
    stem = Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{what}"
    check_output(stem, overwrite=True)
    for i in range(1, 1000):
        directory = stem if i == 1 else stem.with_name(f"{stem.name}-{i}")
        with suppress(FileExistsError):
            directory.mkdir(parents=True)
            return directory
    raise ConfigError("out", stem, "is taken a thousand times; name a folder")


def mark(directory: Path, kind: str) -> None:
    """Makes a folder ours."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / MARKER).write_text(f"ssddl_jax {kind}\n", "utf-8")


def free(directory: Path) -> None:
    """Removes what we wrote into a folder of ours, file by file, and folders then empty."""
    kind = kind_of(directory)
    if kind is None:
        return
    mark(directory, kind)  # still ours if this is cut off
    for path in _ours(directory, kind):
        path.unlink(missing_ok=True)
    for name in _FOLDERS if kind == "run" else ():
        folder = directory / name
        if folder.is_symlink():
            continue
        for inner, _, _ in os.walk(folder, topdown=False):
            with suppress(OSError):
                Path(inner).rmdir()


def _ours(directory: Path, kind: str) -> Iterator[Path]:
    """Files of the names that a command of this kind writes; links are not followed."""
    known = re.compile(_NAMES[kind])
    for inner, folders, files in os.walk(directory):
        if Path(inner) == directory:
            folders[:] = [name for name in folders if name in _FOLDERS]
        for name in files:
            path = Path(inner) / name
            if known.fullmatch(path.relative_to(directory).as_posix()):
                yield path


def write_results(
    directory: Path,
    kind: str,
    found: dict[str, Any],
    table: str,
    draw: Callable[[Path], None] | None = None,
) -> None:
    """Writes KIND.json, KIND.md and KIND.png into a folder that is ours, or made; what another
    command of ours wrote there goes.
    """
    if kind_of(directory) != kind:
        free(directory)
        mark(directory, kind)
    with ExitStack() as written:  # all of them before the first takes its place
        if draw is not None:
            draw(written.enter_context(beside(directory / f"{kind}.png")))
        for end, text in (("md", table), ("json", json.dumps(found, indent=1) + "\n")):
            write_through(written.enter_context(beside(directory / f"{kind}.{end}")), text)
