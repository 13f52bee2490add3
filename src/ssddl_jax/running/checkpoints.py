"""Checkpoints: what a run needs to go on, written by orbax, whole or not at all.

A checkpoint holds the parameters and the server optimizer's state after so many rounds, and what
they belong to: the recipe, the versions, the metrics so far. It has a SHA-256 of its own over all
of that; one that does not agree is not used. The chain of keys is not stored at all: its state is
derived from the run's seed, the simulator's escrow, so that no checkpoint opens any round.
"""

import hashlib
import importlib
import json
import logging
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ssddl_jax.common.errors import ConfigError
from ssddl_jax.running.sinks import JsonLines

KEPT = 3  # checkpoints
_FOLDER = "checkpoints"


class CheckpointError(ConfigError):
    """A checkpoint, or every one of a run, that cannot be used."""

    def __init__(self, value: object, remedy: str) -> None:
        super().__init__("checkpoints", value, remedy)


class Checkpoint(NamedTuple):
    """What a run goes on from."""

    done: int  # rounds
    tree: Any  # (params, server optimizer state), numpy leaves
    rows: list[dict[str, Any]]  # the metrics of those rounds
    seconds: float  # that they took
    resumed_from: list[int]


class Checkpoints:
    """Writes a run's checkpoints; the last `KEPT` stay. Writing goes on beside the next rounds."""

    def __init__(self, directory: Path, recipe: Mapping[str, Any]) -> None:
        ocp = _orbax()
        self.recipe, self.args = recipe, ocp.args
        folder = (directory / _FOLDER).absolute()
        folder.mkdir(exist_ok=True)
        self.held = ExitStack()
        self.manager = ocp.CheckpointManager(
            self.held.enter_context(_in_utf8(folder)),
            options=ocp.CheckpointManagerOptions(
                create=False,
                max_to_keep=KEPT,
                cleanup_tmp_directories=True,
                # Made here, a folder that cannot be made is an error here; made beside the rounds,
                # orbax's threads wait for it for minutes, and the process with them.
                async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
                multiprocessing_options=_alone(),
            ),
        )

    def save(
        self, done: int, tree: Any, log: JsonLines, seconds: float, resumed_from: list[int]
    ) -> None:
        """Starts writing the checkpoint after `done` rounds; waits for the one before it."""
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
        meta = {
            "done": done,
            "seconds": seconds,
            "resumed_from": resumed_from,
            "recipe": dict(self.recipe),
            "log_bytes": log.size,
            "log_sha256": log.digest.hexdigest(),
            "state_sha256": _digest(leaves),
        }
        meta["sha256"] = _meta_digest(meta)
        items = self.args.Composite(
            state=self.args.StandardSave({"bytes": _joined(leaves)}), meta=self.args.JsonSave(meta)
        )
        with _as_os_error():
            self.manager.save(done, args=items, force=True)

    def wait(self) -> None:
        """Returns when everything is written."""
        with _as_os_error():
            self.manager.wait_until_finished()

    def close(self) -> None:
        """Waits, and lets go of orbax's threads."""
        try:
            self.wait()
        finally:
            with self.held, _as_os_error():
                self.manager.close()


def newest(
    directory: Path, recipe: Mapping[str, Any], like: Any, tell: Callable[[str], None]
) -> Checkpoint | None:
    """The newest checkpoint that is whole and belongs to this run; None if none was ever written.

    `like` is a tree of the right shapes and dtypes. Newer ones that are damaged or of another
    recipe are told of. Raises `CheckpointError` if there are some but none can be used.
    """
    reasons: dict[int, str] = {}
    for step in sorted(_steps(directory), reverse=True):
        try:
            found = _read(directory, step, recipe, like)
        except CheckpointError as error:
            reasons[step] = error.remedy
            continue
        for later, reason in reasons.items():
            tell(f"checkpoint {later} is not used: {reason}")
        return found
    for step, reason in reasons.items():  # the newest one's
        remedy = (
            f"none can be used; of round {step}: {reason}; start anew with: "
            f"ssddl run --config {shlex.quote(str(directory / 'config.toml'))} --out ANOTHER"
        )
        raise CheckpointError(directory / _FOLDER, remedy)
    return None


def set_aside(directory: Path, done: int) -> None:
    """Moves checkpoints of later rounds, which were not used, out of the way."""
    for step in _steps(directory):
        if step > done:
            target = directory / "checkpoints-damaged"
            target.mkdir(exist_ok=True)
            free = next(i for i in range(1000) if not (target / f"{step}-{i}").exists())
            (directory / _FOLDER / str(step)).replace(target / f"{step}-{free}")


def _steps(directory: Path) -> list[int]:
    folder = directory / _FOLDER
    if not folder.is_dir():
        return []
    names = [entry.name for entry in folder.iterdir() if entry.name.isdecimal()]
    return [int(name) for name in names if str(int(name)) == name]


def _read(directory: Path, step: int, recipe: Mapping[str, Any], like: Any) -> Checkpoint:
    ocp = _orbax()

    def items(**wanted: Any) -> Any:
        folder = (directory / _FOLDER / str(step)).absolute()
        handler = ocp.CompositeCheckpointHandler()
        reader = ocp.Checkpointer(handler, multiprocessing_options=_alone())
        with _in_utf8(folder) as path, reader:
            return reader.restore(path, args=ocp.args.Composite(**wanted))

    try:
        meta = items(meta=ocp.args.JsonRestore())["meta"]
        if meta.pop("sha256") != _meta_digest(meta) or meta["done"] != step:
            raise CheckpointError(step, "its description is damaged or of another round")
        _same_recipe(step, meta["recipe"], recipe)
        shapes = jax.tree.leaves(like)
        joined = np.zeros(sum(leaf.size * leaf.dtype.itemsize for leaf in shapes), np.uint8)
        found = items(state=ocp.args.StandardRestore({"bytes": joined}))["state"]["bytes"]
        leaves = _parted(np.asarray(found, np.uint8), shapes)
        if _digest(leaves) != meta["state_sha256"]:
            raise CheckpointError(step, "its parameters are damaged: another SHA-256")
        rows = _read_log(directory / "metrics.jsonl", meta)
    except CheckpointError:
        raise
    except Exception as error:  # whatever a damaged file makes of the readers
        first = " ".join(str(error).split())[:60]
        remedy = f"it is damaged ({type(error).__name__}: {first})"
        raise CheckpointError(step, remedy) from error
    tree = jax.tree.unflatten(jax.tree.structure(like), leaves)
    return Checkpoint(step, tree, rows, float(meta["seconds"]), list(meta["resumed_from"]))


def _same_recipe(step: int, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for name in (*wanted, *found):
        if found.get(name) != wanted.get(name):
            remedy = f"written with {name} = {found.get(name)}, here it is {wanted.get(name)}"
            raise CheckpointError(step, f"{remedy}, and the same bits need the same")


def _read_log(path: Path, meta: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl up to the checkpoint."""
    with path.open("rb") as file:
        text = file.read(meta["log_bytes"])
    if hashlib.sha256(text).hexdigest() != meta["log_sha256"]:
        raise CheckpointError(meta["done"], "metrics.jsonl is not what was written before it")
    rows: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    if len(rows) != meta["done"]:
        raise CheckpointError(meta["done"], "metrics.jsonl has another number of rounds")
    return rows


def _joined(leaves: Sequence[np.ndarray]) -> np.ndarray:
    """The leaves' bytes u8 [bytes], one after the other; a copy, as their buffers are donated.

    One array, because orbax reads several side by side, and when one of them is damaged the others
    write tracebacks to stderr from threads of their own.
    """
    return np.frombuffer(b"".join(leaf.tobytes() for leaf in leaves), np.uint8)


def _parted(joined: np.ndarray, shapes: Sequence[Any]) -> list[np.ndarray]:
    """The leaves of these shapes and dtypes, from `_joined`."""
    ends = np.cumsum([leaf.size * leaf.dtype.itemsize for leaf in shapes])
    pieces = np.split(joined, ends[:-1])
    return [
        np.frombuffer(piece.tobytes(), leaf.dtype).reshape(leaf.shape)
        for piece, leaf in zip(pieces, shapes, strict=True)
    ]


def _meta_digest(meta: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def _digest(leaves: Sequence[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for leaf in leaves:
        digest.update(f"{leaf.dtype.str} {leaf.shape};".encode())
        digest.update(leaf.tobytes())
    return digest.hexdigest()


@contextmanager
def _in_utf8(folder: Path) -> Iterator[Path]:
    """The folder by a name that C++ can read also where this locale's encoding is not UTF-8, which
    is a matter of Linux.
    """
    if str(folder).isascii() or sys.getfilesystemencoding() == "utf-8":
        yield folder
        return
    held = os.open(folder, os.O_RDONLY)
    try:
        yield Path(f"/proc/self/fd/{held}")
    finally:
        os.close(held)


@contextmanager
def _as_os_error() -> Iterator[None]:
    """Whatever orbax makes of a disk that is full or not there, as `OSError` of few words."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        code = re.search(r"os_error_code='(\d+)'", str(error))
        if code:
            raise OSError(int(code[1]), os.strerror(int(code[1]))) from error
        first = " ".join(str(error).split())[:120]
        raise OSError(f"a checkpoint could not be written ({first})") from error


def _alone() -> Any:
    """Orbax without waiting for other processes: one writes, each reads for itself."""
    me = jax.process_index()
    return _orbax().options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process-{me}"
    )


@cache
def _orbax() -> Any:
    """Orbax, without the tracebacks that it logs of errors which it raises as well."""
    orbax = importlib.import_module("orbax.checkpoint")  # half a second that only a run pays
    if not os.environ.get("SSDDL_DEBUG"):
        logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)
    return orbax
