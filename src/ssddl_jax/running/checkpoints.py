"""Checkpoints: what a run needs to resume, one file each, written atomically.

`checkpoints/000010.npz` holds the parameters and the server optimizer's state after 10 rounds: leaf
by leaf as `arr_0`, `arr_1`, ..., and in `about.json` the leaves' names and shapes, the recipe, and
the SHA-256 of the lines of metrics.jsonl so far. The archive's comment is the SHA-256 of all bytes
before it. The hash is in the same file, because a kill could separate two files. It is at the end
and covers everything, so no byte is parsed before the hash is checked.

The key chain is not stored: its state is re-derived from the run's seed, the simulator's escrow, so
a checkpoint reveals no round.
"""

import hashlib
import json
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZipFile, ZipInfo

import jax
import numpy as np

from ssddl_jax.common.atomic import beside, write_through
from ssddl_jax.common.errors import ConfigError
from ssddl_jax.common.outputs import ASIDE, CHECKPOINTS, checkpoints_in
from ssddl_jax.running.sinks import JsonLines

KEPT = 3  # checkpoints
_ABOUT = "about.json"
_DIGITS = 64  # of a SHA-256


class CheckpointError(ConfigError):
    """A checkpoint that cannot be used, or a run that has no usable one."""

    def __init__(self, value: object, remedy: str) -> None:
        super().__init__("checkpoints", value, remedy)


class Checkpoint(NamedTuple):
    """What a run is resumed from."""

    done: int  # rounds
    tree: Any  # (params, server optimizer state), numpy leaves
    rows: list[dict[str, Any]]  # the metrics of those rounds
    seconds: float  # the time that they took
    resumed_from: list[int]


class Checkpoints:
    """Writes a run's checkpoints and keeps the last `KEPT`."""

    def __init__(self, directory: Path, recipe: Mapping[str, Any]) -> None:
        self.directory, self.recipe = directory, recipe
        (directory / CHECKPOINTS).mkdir(exist_ok=True)

    def save(
        self, done: int, tree: Any, log: JsonLines, seconds: float, resumed_from: list[int]
    ) -> None:
        """Writes the checkpoint after `done` rounds; it is on the disk when this returns.

        Raises `OSError`; earlier checkpoints are then still there.
        """
        about = {
            "done": done,
            "seconds": seconds,
            "resumed_from": resumed_from,
            "leaves": _described(tree),
            "log_bytes": log.size,
            "log_sha256": log.digest.hexdigest(),
            "recipe": dict(self.recipe),
        }
        os.fsync(log.file.fileno())  # a checkpoint is useless without the lines before it
        with beside(self.directory / CHECKPOINTS / f"{done:06d}.npz") as part:
            write_through(part, _sealed(about, [np.asarray(x) for x in jax.tree.leaves(tree)]))
        found, unfinished = checkpoints_in(self.directory)
        for step in sorted(found)[:-KEPT]:
            found[step].unlink()
        for path in unfinished:  # left by a process that was killed
            path.unlink()


def newest(
    directory: Path, recipe: Mapping[str, Any], like: Any, report: Callable[[str], None]
) -> Checkpoint | None:
    """The newest checkpoint that is intact and belongs to this run; None if there are none at all.

    `like` is a tree of the right shapes and dtypes. `report` gets a line for each newer checkpoint
    that is damaged or of another recipe. Raises `CheckpointError` if no checkpoint can be used.
    """
    reasons: dict[int, str] = {}
    for step, path in sorted(checkpoints_in(directory)[0].items(), reverse=True):
        try:
            found = _read(path, step, recipe, like)
        except CheckpointError as error:
            reasons[step] = error.remedy
            continue
        for later, reason in reasons.items():
            report(f"checkpoint {later} is not used: {reason}")
        return found
    for step, reason in reasons.items():  # the newest one's
        remedy = f"none can be used; the one of round {step}: {reason}; {_anew(directory)}"
        raise CheckpointError(directory / CHECKPOINTS, remedy)
    return None


def set_aside(directory: Path, done: int) -> None:
    """Moves unused checkpoints of later rounds to another folder."""
    for step, path in checkpoints_in(directory)[0].items():
        if step > done:
            target = directory / ASIDE
            target.mkdir(exist_ok=True)
            names = (target / f"{path.stem}-{i}.npz" for i in range(1000))
            path.replace(next(name for name in names if not name.exists()))


def check_format(directory: Path) -> None:
    """Refuses a run of an earlier version, whose checkpoints were written by orbax."""
    if any((directory / CHECKPOINTS).glob("[0-9]*/_CHECKPOINT_METADATA")):
        remedy = (
            "are in the orbax format of an earlier version, which this version cannot read; finish "
            f"the run with the version that started it, or {_anew(directory)}"
        )
        raise CheckpointError(directory / CHECKPOINTS, remedy)


def _anew(directory: Path) -> str:
    config = shlex.quote(str(directory / "config.toml"))
    return f"start over with: ssddl run --config {config} --out ANOTHER"


def _sealed(about: Mapping[str, Any], leaves: Sequence[np.ndarray]) -> bytes:
    """The file's bytes. Leaves of dtypes NumPy lacks, such as bfloat16, are stored as bytes."""
    file = BytesIO()
    raw = (x if x.dtype.isbuiltin == 1 else np.frombuffer(x.tobytes(), np.uint8) for x in leaves)
    np.savez(file, *raw)
    with ZipFile(file, "a") as archive:
        archive.writestr(ZipInfo(_ABOUT), json.dumps(about, indent=1))
        archive.comment = bytes(_DIGITS)
    content = file.getbuffer()[:-_DIGITS]
    return b"".join((content, _sha256(content)))


def _sha256(content: bytes | memoryview) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _read(path: Path, step: int, recipe: Mapping[str, Any], like: Any) -> Checkpoint:
    try:
        content = path.read_bytes()
        if _sha256(memoryview(content)[:-_DIGITS]) != content[-_DIGITS:]:
            raise CheckpointError(step, "it is damaged: its SHA-256 does not match")
        with np.load(BytesIO(content), allow_pickle=False) as archive:
            about = json.loads(archive[_ABOUT])
            if about["done"] != step:
                raise CheckpointError(step, f"it was written after {about['done']} rounds")
            _same_recipe(step, about["recipe"], recipe)
            _same_leaves(step, about["leaves"], _described(like))
            leaves = [
                np.frombuffer(archive[f"arr_{i}"].tobytes(), leaf.dtype).reshape(leaf.shape)
                for i, leaf in enumerate(jax.tree.leaves(like))
            ]
        rows = _read_log(path.parents[1] / "metrics.jsonl", about)
    except CheckpointError:
        raise
    except Exception as error:  # a file that cannot be read, or one forged to look intact
        first = " ".join(str(error).split())[:60]
        remedy = f"it cannot be read ({type(error).__name__}: {first})"
        raise CheckpointError(step, remedy) from error
    tree = jax.tree.unflatten(jax.tree.structure(like), leaves)
    return Checkpoint(step, tree, rows, float(about["seconds"]), list(about["resumed_from"]))


def _same_recipe(step: int, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for name in (*wanted, *found):
        if found.get(name) != wanted.get(name):
            remedy = f"it was written with {name} = {found.get(name)}, but here it is"
            raise CheckpointError(step, f"{remedy} {wanted.get(name)}; the bits would differ")


def _described(tree: Any) -> list[str]:
    """Name, dtype and shape of every leaf of (params, server optimizer state), in order."""
    params, server = tree
    leaves = jax.tree_util.tree_leaves_with_path({"params": params, "server": server})
    return [
        f"{jax.tree_util.keystr(path, simple=True, separator='/')}: {leaf.dtype}{list(leaf.shape)}"
        for path, leaf in leaves
    ]


def _same_leaves(step: int, found: Sequence[str], wanted: Sequence[str]) -> None:
    for mine, here in zip_longest(found, wanted, fillvalue="nothing"):
        if mine != here:
            raise CheckpointError(step, f"it holds {mine}, but this run has {here}")


def _read_log(path: Path, about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl up to the checkpoint."""
    with path.open("rb") as file:
        text = file.read(about["log_bytes"])
    if hashlib.sha256(text).hexdigest() != about["log_sha256"]:
        raise CheckpointError(about["done"], "metrics.jsonl has changed since it was written")
    rows: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    if len(rows) != about["done"]:
        raise CheckpointError(about["done"], "metrics.jsonl has a different number of rounds")
    return rows
