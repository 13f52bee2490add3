"""The folders that commands write into, and the files there that are ours: no others are touched.

A folder is ours if it holds our marker, or version one's `config.toml`; an empty one is free. A new
run that replaces an old one waits in a hidden folder until its first round is done. Renaming that
folder commits the replacement: from then on, whoever opens the directory completes it. So a
directory always holds either the complete old run or a new one that can be resumed.
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
WAITING = ".ssddl-new"  # holds a run that will replace another
CHECKPOINTS, ASIDE = "checkpoints", "checkpoints-damaged"  # ASIDE: those that could not be used
_CHECKPOINT = re.compile(r"(\.part-)?([0-9]{6}|[1-9][0-9]{6,})\.npz")
_ORBAX = (  # checkpoints of earlier versions, which are only removed
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
_LONGEST = 100  # bytes of a dataset's name in the name of a new folder
_FOLDERS = (CHECKPOINTS, ASIDE, "model", "tensorboard")


def kind_of(directory: Path) -> str | None:
    """The command that made the folder: run, compare, attack, scale; None if it is not ours."""
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
    """Refuses an `out` that is not ours, that exists without `overwrite`, or that cannot be
    created. `kind`: the command that will write. Writes nothing; raises `ConfigError`.
    """
    check_path("out", directory)
    if directory.exists() and not directory.is_dir():
        raise ConfigError("out", directory, "is a file; name a folder")
    if in_use(directory):
        was = kind_of(directory)
        if was is None:
            remedy = "is not empty, and no ssddl command made it; name another folder"
            raise ConfigError("out", directory, remedy)
        if not overwrite:
            remedy = "exists already; choose another, or use --overwrite"
            raise ConfigError("out", directory, remedy)
        if was != kind:
            for path in _ours(directory, kind):  # the other command does not write such names
                remedy = f"{path} would be replaced, and no ssddl command made it; move it away"
                raise ConfigError("out", directory, remedy)
        check_contents("out", directory)
    check_creatable("out", directory)


def check_creatable(field: str, directory: Path) -> None:
    """Refuses a folder that cannot be created, or written to if it exists. Leaves nothing there."""
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
        raise ConfigError(field, directory, remedy) from error


def check_run(directory: Path) -> None:
    """Refuses a folder that has a config.toml but was not made by a run: nothing is written there,
    and nothing is read from it as a run's.
    """
    if kind_of(directory) != "run":
        start = f"ssddl run --config {shlex.quote(str(directory / 'config.toml'))}"
        remedy = f"is not a run directory: no ssddl run made it; start one with: {start}"
        raise ConfigError("directory", directory, remedy)


def check_contents(field: str, directory: Path) -> None:
    """Refuses a run directory in which a run would remove or replace what is not ours: a folder or
    a link that is named like a checkpoint and would be deleted in time, or the target of a link.
    """
    for name in ("model", "tensorboard"):
        if (directory / name).is_symlink():
            remedy = f"{directory / name} is a link to a folder that is not this run's; remove it"
            raise ConfigError(field, directory, remedy)
    for entry in _named_as_checkpoints(directory):
        if not entry.is_file(follow_symlinks=False):
            remedy = f"{entry.path} is named like a checkpoint but is not a file; move it away"
            raise ConfigError(field, directory, remedy)


def in_use(directory: Path) -> bool:
    return directory.is_dir() and any(
        entry.name not in (WAITING, MARKER) for entry in directory.iterdir()
    )


def checkpoints_in(directory: Path) -> tuple[dict[int, Path], list[Path]]:
    """A run's checkpoints by round, and the unfinished ones that a killed process left."""
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
    """Yields the folder to write into, checked: the one given, or a new one in runs/.

    A new folder is created at once, so that no other process takes its name, and is removed if
    nothing was written into it.
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
    """The name of a new folder for a run, without the time in front."""
    stem = os.fsencode(Path(config.data).stem)[:_LONGEST].decode("utf-8", "ignore")
    return f"{config.protocol}-{os.fsdecode(stem.encode())}"


def check_new(what: str) -> Path:
    """The name of a new folder in runs/, with the time in front. Raises `ConfigError` if no folder
    can be created there.
    """
    stem = Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{what}"
    check_path("out", stem)
    check_creatable("out", stem)
    return stem


def new_directory(what: str) -> Path:
    """Creates a folder with an unused name in runs/. Raises `ConfigError`."""
    stem = check_new(what)
    for i in range(1, 1000):
        directory = stem if i == 1 else stem.with_name(f"{stem.name}-{i}")
        with suppress(FileExistsError):
            directory.mkdir(parents=True)
            return directory
    raise ConfigError("out", stem, "exists a thousand times already; name a folder with --out")


def mark(directory: Path, kind: str) -> None:
    """Marks a folder as ours, creating it if missing."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / MARKER).write_text(f"ssddl_jax {kind}\n", "utf-8")


def free(directory: Path) -> None:
    """Removes the files that we wrote into a folder of ours, and the folders that this empties."""
    kind = kind_of(directory)
    if kind is None:
        return
    mark(directory, kind)  # so that it stays ours if this is interrupted
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
    """Files with names that this kind of command writes; links are not followed."""
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
    """Writes KIND.json, KIND.md and KIND.png into a folder that is ours or is created here; files
    that another command wrote there are removed.
    """
    if kind_of(directory) != kind:
        free(directory)
        mark(directory, kind)
    with ExitStack() as written:  # all are written before the first replaces its predecessor
        if draw is not None:
            draw(written.enter_context(beside(directory / f"{kind}.png")))
        for end, text in (("md", table), ("json", json.dumps(found, indent=1) + "\n")):
            write_through(written.enter_context(beside(directory / f"{kind}.{end}")), text)
