"""What the TPU's own compiler expects a round to take: an estimate, never a measured time.

The compiler writes `estimated_cycles` beside every fusion; here they are added up by module, times
the trips of the loops around them. A Pallas kernel carries no estimate: it is compiled alone, its
final schedule is dumped, and the bundles of its inner loop are counted. A bundle is a cycle when
nothing stalls. Collectives are counted in bytes, by the bandwidth of the chip's links. Whatever
else carries no figure, such as copies and sorts, is named; what it would take to read and write its
results once stands beside the sum, for much of it runs beside the rest.
"""

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

from ssddl_jax.hlo import MODULES, OTHER, Operation, Program, computations, entry, scopes_of


class Chip(NamedTuple):
    """Rates of a chip (Google Cloud's TPU documentation)."""

    clock: float  # cycles a second
    memory: float  # bytes a second from and to its memory
    links: float  # bytes a second to its neighbours


CHIPS = {"TPU v5 lite": Chip(1.5e9, 819e9, 200e9)}
_KERNEL = "key_sums_"
_COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
# What is free, or part of what calls it.
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional"),
    *("call", "after-all", "partition-id", "replica-id", "iota", "opt-barrier", "copy-done"),
    *("all-reduce-done", "all-gather-done", "collective-permute-done", "async-done", "slice-done"),
}


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


class _Cost:
    """What has been added up."""

    def __init__(self) -> None:
        self.cycles: Counter[str] = Counter()  # by module/part
        self.steps = 0  # fusions and kernels, one after another
        self.kernels: Counter[tuple[Kernel, str]] = Counter()  # with the module/part they are in
        self.collective_bytes = 0
        self.unknown: Counter[str] = Counter()  # kinds of operations without a figure
        self.unknown_bytes: Counter[str] = Counter()  # of what they give, by module/part


def estimate(
    text: str, device_kind: str, bundles_of: Callable[[Kernel], Bundles] | None = None
) -> dict[str, Any]:
    """Seconds of one round on one of the devices, by module, from its compiled text."""
    chip = CHIPS[device_kind]
    clock = chip.clock
    cost = _Cost()
    _add(cost, computations(text), scopes_of(text), entry(text), 1)
    kernels = []
    for (kernel, scope), calls in cost.kernels.items():
        bundles = (bundles_of or count_bundles)(kernel)
        cycles = calls * bundles.cycles(kernel)
        cost.cycles[scope] += cycles
        kernels.append(
            {
                "kernel": f"{_KERNEL}{kernel.prg}_{kernel.terms}",
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
        "seconds_of_these_at_most": sum(moved.values()),
        "how": (
            "the compiler's estimated_cycles of every fusion, times the trips of its loops; of a "
            "kernel grid x (bundles of a step besides + keys x bundles of a key) from its final "
            "schedule; collectives by bytes over the links; of what has no estimate only the bytes "
            "are known: its results read and written once, at most; no measured time"
        ),
    }


def _add(
    cost: _Cost, program: Program, scopes: dict[str, str | None], computation: str, times: int
) -> None:
    """Adds a computation that runs so often; of a branch the dearer side."""
    for name, operation in program.get(computation, {}).items():
        scope = scopes.get(name) or OTHER
        if operation.kind == "while":
            condition, body = (_called(operation, word) for word in ("condition", "body"))
            _add(cost, program, scopes, body, times * _trips(program, operation, condition))
        elif operation.kind == "conditional":
            _add_dearest(cost, program, scopes, operation, times)
        elif operation.kind == "call":
            _add(cost, program, scopes, _called(operation, "to_apply"), times)
        elif (kernel := _kernel(operation)) is not None:
            cost.kernels[kernel, scope] += times
            cost.steps += times
        elif operation.kind.removesuffix("-start") in _COLLECTIVES:
            cost.collective_bytes += times * _bytes(operation)
            cost.steps += times
        elif found := re.search(r'"estimated_cycles":"(\d+)"', operation.line):
            cost.cycles[scope] += times * int(found[1])
            cost.steps += times
        elif operation.kind not in _FREE:
            cost.unknown[operation.kind] += times
            cost.unknown_bytes[scope] += times * _bytes(operation)


def _add_dearest(
    cost: _Cost,
    program: Program,
    scopes: dict[str, str | None],
    operation: Operation,
    times: int,
) -> None:
    sides = []
    for name in operation.inside:
        side = _Cost()
        _add(side, program, scopes, name, times)
        sides.append(side)
    dearest = max(sides, key=lambda side: sum(side.cycles.values()), default=None)
    if dearest is not None:
        cost.cycles += dearest.cycles
        cost.kernels += dearest.kernels
        cost.unknown += dearest.unknown
        cost.unknown_bytes += dearest.unknown_bytes
        cost.steps += dearest.steps
        cost.collective_bytes += dearest.collective_bytes


def _called(operation: Operation, word: str) -> str:
    found = re.search(rf"\b{word}=%?([\w.\-]+)", operation.line)
    return found[1] if found else ""


def _trips(program: Program, operation: Operation, condition: str) -> int:
    """Of a loop: what the compiler knows, or the bound that its counter is compared with."""
    known = re.search(r'"known_trip_count":\{"n":"(\d+)"', operation.line)
    if known:
        return int(known[1])
    lines = list(program.get(condition, {}).values())
    lines += [line for top in lines for name in top.inside for line in program[name].values()]
    bounds = [found[1] for x in lines if (found := re.search(r" constant\((\d+)\)", x.line))]
    return max(map(int, bounds), default=1)


def _bytes(operation: Operation) -> int:
    """Of what an operation gives: of a collective, about what a device must receive."""
    kind = operation.line.partition(f" {operation.kind}(")[0]
    sizes = re.findall(r"\b[suf](\d+)\[([\d,]*)\]", kind)
    return sum(
        int(bits) // 8 * math.prod(map(int, filter(None, dims.split(",")))) for bits, dims in sizes
    )


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
    counts: lines of the inner loop, and of the grid's loop besides. `dump`: a folder that is kept.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = dump or folder
        flags = f"--xla_jf_dump_to={place} --xla_jf_dump_llo_text=true"
        environment = {**os.environ, "LIBTPU_INIT_ARGS": flags, "JAX_PLATFORMS": "cpu"}
        given = json.dumps([kernel.prg, kernel.terms, kernel.side])
        command = [sys.executable, "-m", "ssddl_jax.estimate", given]
        subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        files = sorted(Path(place).glob(f"*{_KERNEL}*final_bundles.txt"))
        return bundles_in(files[-1].read_text(encoding="utf-8"))


def bundles_in(schedule: str) -> Bundles:
    """Of a dumped final schedule, where `>` and `>>` say how deep in loops a bundle stands."""
    depths = re.findall(r"^ *0x[0-9a-f]+ +(?:[A-Z]+)? *: (>*) *\{", schedule, re.MULTILINE)
    counted = Counter(len(depth) for depth in depths)
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
