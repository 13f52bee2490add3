"""What the TPU's own compiler expects a round to take: an estimate, never a measured time.

The compiler writes `estimated_cycles` beside every fusion; here they are added up by module, times
the trips of the loops around them. A Pallas kernel carries no estimate: it is compiled alone, its
final schedule is dumped, and the bundles of its inner loop are counted. A bundle is a cycle when
nothing stalls. Collectives are counted in bytes, by the bandwidth of the chip's links, without the
time a message is under way. Whatever else carries no figure, such as copies, gathers and sorts, is
named; what it would take to read and write its results once stands beside the sum, for much of it
runs beside the rest.
"""

import re
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from ssddl_jax.measure.kernel_bundles import KERNEL, Bundles, Kernel, count_bundles, kernel_of
from ssddl_jax.simulation.hlo import (
    MODULES,
    OTHER,
    Operation,
    Program,
    called,
    computations,
    entry,
    result_bytes,
    scopes_of,
    trip_count,
)


class Chip(NamedTuple):
    """Rates of a chip (Google Cloud's TPU documentation)."""

    clock: float  # cycles a second
    memory: float  # bytes a second from and to its memory
    links: float  # bytes a second to its neighbours


CHIPS = {"TPU v5 lite": Chip(1.5e9, 819e9, 200e9)}
_COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
# What is free, or counted where it started; of custom calls, by their targets.
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"),
    *("partition-id", "replica-id", "iota", "opt-barrier", "async-update"),
    *("AllocateBuffer", "AssumeGatherIndicesInBound", "ConcatBitcast"),
}


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
                "kernel": f"{KERNEL}{kernel.prg}_{kernel.terms}",
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
            condition, body = (called(operation, word) for word in ("condition", "body"))
            trips = trip_count(text.program, operation, condition)
            if trips is None:
                cost.unknown["while, counted once"] += times
            _add(cost, text, body, times * (1 if trips is None else trips))
        elif kind == "conditional":
            sides = [_Cost() for _ in operation.inside]
            for side, inside in zip(sides, operation.inside, strict=True):
                _add(side, text, inside, times)
            cost += max(sides, key=_Cost.dear, default=_Cost())
        elif kind in ("call", "async-start"):
            _add(cost, text, called(operation, "to_apply|calls"), times)
        elif (kernel := kernel_of(operation)) is not None:
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
            cost.unknown_bytes[scope] += times * result_bytes(operation)


def _what(operation: Operation) -> str:
    """An operation's kind, or the target of a custom call."""
    target = re.search(r'custom_call_target="([^"]*)"', operation.line)
    return target[1] if operation.kind == "custom-call" and target else operation.kind


def _sent(program: Program, operation: Operation) -> int:
    """Bytes of the results of a collective, which may be fused with what follows it."""
    if operation.kind.removesuffix("-start") in _COLLECTIVES:
        return result_bytes(operation)
    if operation.kind != "fusion":
        return 0
    fused = [line for name in operation.inside for line in program.get(name, {}).values()]
    return sum(_sent(program, line) for line in fused)
