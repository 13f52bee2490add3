"""What commands accept in addition to a config: records, and checks that need no model.

Imports no JAX, so the command line refuses a bad request in the time that Python takes to start.
The functions that do the work make the same checks for callers from Python.
"""

import os
import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from ssddl_jax.common.errors import ConfigError
from ssddl_jax.common.outputs import check_creatable
from ssddl_jax.common.paths import check_path, user_path
from ssddl_jax.config.config import MOST, Config
from ssddl_jax.config.protocols import PROTOCOLS, protocol_of
from ssddl_jax.config.rules import RULES
from ssddl_jax.core.arithmetic.headroom import CAPACITIES, headroom

# Transcripts and explanations of a round


def check_shown(config: Config, rounds: Collection[int]) -> None:
    """Refuses transcripts of rounds that have no shares or that are not in the run."""
    if not config.sums_securely:
        raise ConfigError("protocol", config.protocol, "has no shares to show; use ssddl")
    for round_ in rounds:
        if not 0 <= round_ < config.rounds:
            remedy = f"must be 0..{config.rounds - 1} (rounds count from 0)"
            raise ConfigError("round", round_, remedy)


def check_transcript_file(path: str, overwrite: bool) -> None:
    """Refuses a transcript file that exists already or that could not be written."""
    target = Path(path)
    check_path("out", target)
    part = target.with_name(f".part-{target.name}") if target.name else target
    check_path("out", part)
    if target.is_dir():
        raise ConfigError("out", path, "is a folder; name a file ending in .npz")
    if part.exists() or part.is_symlink():
        remedy = f"is first written as {part}, which exists already; move that file away"
        raise ConfigError("out", path, remedy)
    if target.exists() and not target.is_file():
        raise ConfigError("out", path, "is a device; name a file ending in .npz")
    if target.exists() and not overwrite:
        raise ConfigError("out", path, "exists already; choose another, or use --overwrite")
    if not target.absolute().parent.is_dir():
        raise ConfigError("out", path, f"its folder {target.parent} does not exist; create it")
    if not os.access(target.absolute().parent, os.W_OK):
        raise ConfigError("out", path, f"its folder {target.parent} is not writable")


def check_explained(config: Config) -> None:
    """Refuses what `explain` cannot show."""
    if not protocol_of(config).explained:
        names = " or ".join(p.name for p in PROTOCOLS.values() if p.explained)
        remedy = f"cannot be explained in one screen; use {names}"
        raise ConfigError("protocol", config.protocol, remedy)


# Measurements


def check_profile(config: Config, path: str | Path) -> None:
    """Refuses a folder for a trace that is not empty or cannot be created, and a round that is not
    compiled.
    """
    target = Path(user_path("profile", path))
    check_path("profile", target)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError("profile", path, "exists already; name a new folder")
    check_creatable("profile", target)
    if config.in_python:
        remedy = "engine reference is not compiled, so it has no trace; use engine pairwise"
        raise ConfigError("profile", path, remedy)


class ShareBench(NamedTuple):
    """What `bench share` measures, in addition to the config."""

    group_size: int = 64
    dimension: int = 50_890
    repeats: int = 5
    sample_uploads: int = 0


class RoundBench(NamedTuple):
    """What `bench round` measures: S steps of batch B over E examples of each of N participants."""

    participants: int = 1000
    examples: int = 20
    local_steps: int = 1
    batch_size: int = 20
    repeats: int = 5
    sample_uploads: int = 0


def check_share_bench(config: Config, bench: ShareBench) -> None:
    """Refuses shares that cannot be timed."""
    _check_sizes(bench)
    if not config.sums_securely:
        raise ConfigError("protocol", config.protocol, "has no shares to time; use ssddl")
    _check_engine(config)
    _check_sample(config, bench.sample_uploads, bench.group_size)


def check_round_bench(config: Config, bench: RoundBench) -> None:
    """Refuses rounds that cannot be timed."""
    _check_sizes(bench)
    _check_engine(config)
    _check_sample(config, bench.sample_uploads, bench.participants)


def _check_sample(config: Config, count: int, members: int) -> None:
    """Only the masks of SSDDL's own pairs are computed member by member."""
    if count == 0:
        return
    if not 0 < count <= members:
        remedy = f"must be 0..{members:,}, the members of the group"
        raise ConfigError("sample_uploads", count, remedy)
    if config.dropout > 0 or config.dropout_schedule is not None:
        raise ConfigError("sample_uploads", count, "needs everybody's uploads: use dropout 0")
    _check_uploads_exist("sample_uploads", count, config)


def check_sampled(config: Config, slots: Sequence[int]) -> None:
    """Refuses slots whose uploads a round cannot return."""
    outside = [slot for slot in slots if not 0 <= slot < config.group]
    if outside:
        raise ConfigError("sampled", outside[0], f"must be a slot, 0..{config.group - 1:,}")
    if slots:
        _check_uploads_exist("sampled", tuple(slots), config)


def _check_uploads_exist(field: str, value: object, config: Config) -> None:
    if not config.sums_securely or config.engine != "pairwise":
        what = "shows real uploads: use protocol ssddl with engine pairwise"
        raise ConfigError(field, value, what)
    able = [name for name, r in RULES.items() if r.opens != "secrets" and not r.holds_sharers]
    if config.rule_in_force.name not in able:
        raise ConfigError(field, value, f"works with dropout_rule {' or '.join(able)}")


def _check_sizes(bench: ShareBench | RoundBench) -> None:
    for name, value in zip(bench._fields, bench, strict=True):
        if name == "sample_uploads":
            continue
        if value < 1:
            raise ConfigError(name, value, "must be at least 1")
        if value > MOST:
            raise ConfigError(name, value, f"must be at most {MOST}")


def _check_engine(config: Config) -> None:
    if config.in_python:
        raise ConfigError("engine", "reference", "cannot be timed; use pairwise or ideal")


# Compiling ahead of time


class Target(NamedTuple):
    """A platform to compile for, such as tpu:v5e:16x16, cuda:h100:8, or cuda (StableHLO only)."""

    platform: str
    topology: str | None


GPUS_DESCRIBED = ("h100", "h200", "b200")  # to XLA's compiler, in `measure/gpu_topology.py`
_TARGETS = (
    "must be tpu:VERSION:SHAPE, such as tpu:v5e:2x2; cuda:GPU or cuda:GPU:COUNT, up to 8, with "
    f"{', '.join(GPUS_DESCRIBED)}; or cuda"
)


def parse_target(text: str) -> Target:
    """A target by name, or `ConfigError`."""
    platform, _, topology = text.partition(":")
    if text == "cuda":
        return Target("cuda", None)
    if platform == "cuda" and re.fullmatch(rf"({'|'.join(GPUS_DESCRIBED)})(:[1-8])?", topology):
        return Target("cuda", topology)
    if platform == "tpu" and re.fullmatch(r"v\d+\w*:\d+(x\d+)+", topology):
        return Target("tpu", topology)
    raise ConfigError("target", text, _TARGETS)


def check_compiled(config: Config, target: Target) -> None:
    """Refuses an engine that is not compiled, and a target whose compiler is not installed."""
    if config.in_python:
        raise ConfigError("engine", "reference", "is not compiled; use pairwise or ideal")
    compilers = {"tpu": ("libtpu",), "cuda": ("jax_cuda13_plugin", "jax_cuda12_plugin")}
    if target.topology and not any(map(find_spec, compilers[target.platform])):
        extra = target.platform
        remedy = f"needs the compiler for {extra}: pip install 'ssddl-jax[{extra}]'"
        raise ConfigError("target", f"{extra}:{target.topology}", remedy)


# Studies of attacks

SIZES = (2, 3, 5, 10, 25, 50, 100)  # members of the sums attacked
_MOST_STUDIED = 500  # participants


def check_study(config: Config, targets: int, sizes: list[int]) -> None:
    """Refuses what cannot be studied."""
    if config.participants > _MOST_STUDIED:
        remedy = f"must be at most {_MOST_STUDIED}: a study keeps every participant's update"
        raise ConfigError("participants", config.participants, remedy)
    if config.participants < 4:
        remedy = "must be at least 4: groups of three that change from round to round"
        raise ConfigError("participants", config.participants, remedy)
    if not 2 <= targets <= config.participants:
        remedy = f"must be 2..{config.participants} (participants): intervals need two or more"
        raise ConfigError("targets", targets, remedy)
    for size in sizes:
        if not 2 <= size <= config.participants:
            remedy = f"must be 2..{config.participants} (participants)"
            raise ConfigError("sizes", size, remedy)
    if config.group >= config.participants:
        remedy = f"must be below participants = {config.participants}, so that groups change"
        raise ConfigError("group_size", config.group, remedy)


def attack_config(config: Config, batch: int = 1) -> Config:
    """The config of a study's rounds: E = `batch` examples each, one local step, and the most
    binary places with which a sum of all participants fits the ring. Rounds to nearest, so that a
    participant's update is the same in every round. Raises `ConfigError` for a clip without room.
    """
    most = CAPACITIES["ring"] // config.participants
    if config.clip > most:
        remedy = (
            f"must be at most {_rounded_down(most):.3g}: the ring holds a sum of "
            f"{config.participants} participants, in whole numbers, only up to there"
        )
        raise ConfigError("clip", config.clip, remedy)
    room = headroom(
        clip=config.clip,
        fraction_bits="auto",
        group_size=config.participants,
        weight_max=1,
        kind="ring",
    )
    return replace(
        config,
        fraction_bits=room.fraction_bits,
        rounding="nearest",
        model="mlp",
        partition=f"resample:{batch}",
        batch_size=batch,
        local_epochs=1,
        rounds=max(100, 10 * config.participants),
    )


def _rounded_down(count: int) -> int:
    """A number, cut to three digits."""
    unit = 10 ** max(0, len(str(count)) - 3)
    return count // unit * unit
