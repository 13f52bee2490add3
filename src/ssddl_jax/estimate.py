"""What the TPU's own compiler expects a round to take: an estimate, never a measured time.

The compiler writes `estimated_cycles` beside every fusion; here they are added up by module, times
the trips of the loops around them. A Pallas kernel carries no estimate: it is compiled alone, its
final schedule is dumped, and the bundles of its inner loop are counted. A bundle is a cycle when
nothing stalls. Collectives are counted in bytes, by the bandwidth of the chip's links, without the
time a message is under way. Whatever else carries no figure, such as copies, gathers and sorts, is
named; what it would take to read and write its results once stands beside the sum, for much of it
runs beside the rest.
"""

import functools
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ssddl_jax.errors import RunError, one_line
from ssddl_jax.hlo import (
    MODULES,
    OTHER,
    Operation,
    Program,
    computations,
    elements,
    entry,
    scopes_of,
)


class Chip(NamedTuple):
    """Rates of a chip (Google Cloud's TPU documentation)."""

    clock: float  # cycles a second
    memory: float  # bytes a second from and to its memory
    links: float  # bytes a second to its neighbours


CHIPS = {"TPU v5 lite": Chip(1.5e9, 819e9, 200e9)}
_KERNEL = "key_sums_"
_COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
# What is free, or counted where it started; of custom calls, by their targets.
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"),
    *("partition-id", "replica-id", "iota", "opt-barrier", "async-update"),
    *("AllocateBuffer", "AssumeGatherIndicesInBound", "ConcatBitcast"),
}
_WIDTH = {"pred": 1, "s4": 1, "u4": 1}  # bytes, where the name does not say it


class Kernel(NamedTuple):
    """A call of `key_sums`, as the compiled text shows it."""

    prg: str
    terms: str
    rows: int  # grid steps over rows, and over the keys of one
    keys: int  # of a grid step
    groups: int  # grid steps over the blocks
    side: int  # sublanes of a grid step's blocks

    @property
    def words(self) -> int:
        """PRG words of a call, padding included."""
        return 16 * 128 * self.side * self.groups * self.rows * self.keys


class Bundles(NamedTuple):
    """Of a kernel's final schedule."""

    inner: int  # of its loop over keys, one key
    outer: int  # of a grid step besides

    def cycles(self, kernel: Kernel) -> int:
        """Of one call."""
        return kernel.rows * kernel.groups * (self.outer + kernel.keys * self.inner)


class _Text(NamedTuple):
    """A compiled program, and how its kernels are counted."""

    program: Program
    scopes: dict[str, str | None]
    bundles_of: Callable[[Kernel], Bundles]


class _Cost:
    """What has been added up."""

    def __init__(self) -> None:
        self.cycles: Counter[str] = Counter()  # by module/part, kernels included
        self.steps = 0  # fusions and kernels, one after another
        self.kernels: Counter[tuple[Kernel, str]] = Counter()  # with the module/part they are in
        self.collective_bytes = 0
        self.unknown: Counter[str] = Counter()  # kinds of operations without a figure
        self.unknown_bytes: Counter[str] = Counter()  # of what they give, by module/part

    def __iadd__(self, other: "_Cost") -> "_Cost":
        self.cycles += other.cycles
        self.steps += other.steps
        self.kernels += other.kernels
        self.collective_bytes += other.collective_bytes
        self.unknown += other.unknown
        self.unknown_bytes += other.unknown_bytes
        return self

    def dear(self) -> tuple[int, int, int]:
        """By which two sides of a branch are compared."""
        unknown = sum(self.unknown_bytes.values())
        return sum(self.cycles.values()), self.collective_bytes, unknown


def estimate(
    text: str, device_kind: str, bundles_of: Callable[[Kernel], Bundles] | None = None
) -> dict[str, Any]:
    """Seconds of one round on one of the devices, by module, from its compiled text.

    `bundles_of`: another way than `count_bundles` to know a kernel's bundles. Raises `RunError` if
    they cannot be counted.
    """
    chip = CHIPS[device_kind]
    clock = chip.clock
    cost, bundles_of = _Cost(), bundles_of or count_bundles
    _add(cost, _Text(computations(text), scopes_of(text), bundles_of), entry(text), 1)
    kernels = []
    for (kernel, scope), calls in cost.kernels.items():
        bundles = bundles_of(kernel)
        cycles = calls * bundles.cycles(kernel)
        kernels.append(
            {
                "kernel": f"{_KERNEL}{kernel.prg}_{kernel.terms}",
                "module": scope,
                "calls": calls,
                "grid": [kernel.rows, kernel.groups],
                "keys_of_a_step": kernel.keys,
                "words": calls * kernel.words,
                "words_of_a_key": 2048 * kernel.side,
                "bundles_of_a_key": bundles.inner,
                "bundles_of_a_step_besides": bundles.outer,
                "cycles": cycles,
                "gwords_per_s": calls * kernel.words / cycles * clock / 1e9,
                "gwords_per_s_of_the_loop": 2048 * kernel.side / bundles.inner * clock / 1e9,
            }
        )
    modules = dict.fromkeys((*MODULES, OTHER), 0.0)
    for scope, cycles in cost.cycles.items():
        modules[scope.partition("/")[0]] += cycles / clock
    moved = {scope: 2 * count / chip.memory for scope, count in cost.unknown_bytes.items()}
    sent = cost.collective_bytes / chip.links
    return {
        "seconds": sum(modules.values()) + sent,
        "seconds_by_module": modules,
        "seconds_of_collectives": sent,
        "bytes_of_collectives": cost.collective_bytes,
        "cycles": sum(cost.cycles.values()),
        "clock_hz": clock,
        "steps": cost.steps,
        "kernels": kernels,
        "without_an_estimate": dict(cost.unknown),
        "seconds_of_these_by_bytes": sum(moved.values()),
        "how": (
            "the compiler's estimated_cycles of every fusion, times the trips of its loops; of a "
            "kernel grid x (bundles of a step besides + keys x bundles of a key) from its final "
            "schedule; of a branch the dearer side; collectives by the bytes of their results over "
            "the links; what has no estimate is not in the sum: beside it stands what its results "
            "take to be written and read once; no measured time"
        ),
    }


def _add(cost: _Cost, text: _Text, computation: str, times: int) -> None:
    """Adds a computation that runs so often; of a branch the dearer side."""
    for name, operation in text.program.get(computation, {}).items():
        kind, scope = operation.kind, text.scopes.get(name) or OTHER
        sent = times * _sent(text.program, operation)
        if kind == "while":
            condition, body = (_called(operation, word) for word in ("condition", "body"))
            trips = _trips(text.program, operation, condition)
            if trips is None:
                cost.unknown["while, counted once"] += times
            _add(cost, text, body, times * (1 if trips is None else trips))
        elif kind == "conditional":
            sides = [_Cost() for _ in operation.inside]
            for side, inside in zip(sides, operation.inside, strict=True):
                _add(side, text, inside, times)
            cost += max(sides, key=_Cost.dear, default=_Cost())
        elif kind in ("call", "async-start"):
            _add(cost, text, _called(operation, "to_apply|calls"), times)
        elif (kernel := _kernel(operation)) is not None:
            cost.kernels[kernel, scope] += times
            cost.cycles[scope] += times * text.bundles_of(kernel).cycles(kernel)
            cost.steps += times
        elif found := re.search(r'"estimated_cycles":"(\d+)"', operation.line):
            cost.cycles[scope] += times * int(found[1])
            cost.collective_bytes += sent
            cost.steps += times
        elif sent:
            cost.collective_bytes += sent
            cost.steps += times
        elif (what := _what(operation)) not in _FREE and not kind.endswith("-done"):
            cost.unknown[what] += times
            cost.unknown_bytes[scope] += times * _bytes(operation)


def _what(operation: Operation) -> str:
    """An operation's kind, or the target of a custom call."""
    target = re.search(r'custom_call_target="([^"]*)"', operation.line)
    return target[1] if operation.kind == "custom-call" and target else operation.kind


def _sent(program: Program, operation: Operation) -> int:
    """Bytes of the results of a collective, which may be fused with what follows it."""
    if operation.kind.removesuffix("-start") in _COLLECTIVES:
        return _bytes(operation)
    if operation.kind != "fusion":
        return 0
    fused = [line for name in operation.inside for line in program.get(name, {}).values()]
    return sum(_sent(program, line) for line in fused)


def _called(operation: Operation, word: str) -> str:
    found = re.search(rf"\b(?:{word})=%?([\w.\-]+)", operation.line)
    return found[1] if found else ""


def _trips(program: Program, operation: Operation, condition: str) -> int | None:
    """Of a loop: what the compiler knows, or the bound that its counter is compared with; None if
    neither is in the text.
    """
    known = re.search(r'"known_trip_count":\{"n":"(\d+)"', operation.line)
    if known:
        return int(known[1])
    lines = list(program.get(condition, {}).values())
    lines += [line for top in lines for name in top.inside for line in program[name].values()]
    bounds = [found[1] for x in lines if (found := re.search(r" constant\((\d+)\)", x.line))]
    return max(map(int, bounds), default=None)


def _bytes(operation: Operation) -> int:
    """Of what an operation gives. What starts a copy or a collective gives a tuple of operands,
    results and flags, of which only the results count; an all-reduce's start only its results.
    """
    given = operation.line.partition(" = ")[2].partition(f" {operation.kind}(")[0]
    if operation.kind.endswith("-start") and operation.kind != "all-reduce-start":
        given = (*elements(given), given)[1]
    total = 0
    for name, dims in re.findall(r"\b(pred|(?:bf|[sufc])\d+)\[([\d,]*)\]", given):
        width = _WIDTH.get(name) or int(name.lstrip("bsufc")) // 8
        total += width * math.prod(map(int, filter(None, dims.split(","))))
    return total


def _kernel(operation: Operation) -> Kernel | None:
    """A call of `key_sums`: its grid stands in the shapes of what it is given and gives."""
    if operation.kind != "custom-call" or "tpu_custom_call" not in operation.line:
        return None
    named = re.search(rf"{_KERNEL}(chacha\d+)_([a-z_]+[a-z])", operation.line)
    given = re.search(r"operand_layout_constraints=\{u32\[(\d+),(\d+),8\]", operation.line)
    made = re.search(r"= u32\[(\d+),\d+,16,(\d+),128\]", operation.line)
    if not (named and given and made):
        return None
    steps, keys = int(given[1]), int(given[2])
    tall = int(made[2])
    side = 16 if tall % 16 == 0 else 8
    return Kernel(named[1], named[2], steps, keys, tall // side, side)


def count_bundles(kernel: Kernel, dump: str | None = None) -> Bundles:
    """Compiles such a kernel alone, in a process of its own whose compiler dumps its schedules, and
    counts: lines of the inner loop, and of the grid's loop besides. Once a process for each kind of
    kernel. `dump`: a folder that is kept. Raises `RunError`.
    """
    return _count_bundles(kernel.prg, kernel.terms, kernel.side, dump)


@functools.cache
def _count_bundles(prg: str, terms: str, side: int, dump: str | None) -> Bundles:
    name = f"{_KERNEL}{prg}_{terms}"
    with tempfile.TemporaryDirectory() as folder:
        place = Path(dump or folder)
        flags = f"--xla_jf_dump_to={place} --xla_jf_dump_llo_text=true"
        environment = {**os.environ, "LIBTPU_INIT_ARGS": flags, "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, "-m", "ssddl_jax.estimate", json.dumps([prg, terms, side])]
        ended = subprocess.run(
            command,
            env=environment,
            check=False,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
        )
        if ended.returncode != 0:
            why = one_line(ended.stderr.strip()[-600:], 600) or f"exit status {ended.returncode}"
            raise RunError(f"estimate: kernel {name} alone was not compiled for a TPU: {why}")
        # Beside it lies an analysis of it, "...-schedule-analysis_final_bundles.txt".
        files = list(place.glob(f"*{name}*-final_bundles.txt"))
        if not files:
            raise RunError(f"estimate: the TPU's compiler dumped no schedule of kernel {name}")
        newest = max(files, key=lambda file: file.stat().st_mtime_ns)
        try:
            return bundles_in(newest.read_text(encoding="utf-8", errors="replace"))
        except ValueError as error:
            raise RunError(f"estimate: kernel {name}: {error}") from error


def bundles_in(schedule: str) -> Bundles:
    """Of a dumped final schedule, where `>` and `>>` say how deep in loops a bundle stands: the
    grid's, and inside it the one over keys.
    """
    depths = re.findall(r"^ *(?:0x[0-9a-f]+|0) +(?:[A-Z]+)? *: (>*) *\{", schedule, re.MULTILINE)
    counted = Counter(len(depth) for depth in depths)
    if not counted[1] or not counted[2] or max(counted) > 2:
        raise ValueError(f"its schedule has bundles at loop depths {sorted(counted)}, not 0 to 2")
    return Bundles(inner=counted[2], outer=counted[1])


def _compile_alone(prg: str, terms: str, side: int) -> None:
    """What `count_bundles` runs: a kernel of one row and four keys."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import SingleDeviceSharding

    from ssddl_jax.ahead import tpu_devices
    from ssddl_jax.chacha import PRGS
    from ssddl_jax.sharing.key_sums import TERMS, key_sums

    where = SingleDeviceSharding(tpu_devices("v5e:1x1")[0])
    kind, blocks = TERMS[terms], 2 * 128 * side
    keys = jax.ShapeDtypeStruct((2, 4, 8), jnp.uint32, sharding=where)
    weights = jax.ShapeDtypeStruct((kind.weights, 2, 4), jnp.uint32, sharding=where)

    def call(keys: jax.Array, weights: jax.Array) -> jax.Array:
        return key_sums(PRGS[prg], kind, keys, weights, 0, blocks, platform="tpu")

    jax.jit(call).lower(keys, weights).compile()


if __name__ == "__main__":
    _compile_alone(*json.loads(sys.argv[1]))
