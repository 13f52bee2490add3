"""Seconds of a round as the TPU's compiler estimates them; never a measured time.

The compiler annotates every fusion with `estimated_cycles`. They are summed by module, multiplied
by the trip counts of the loops around them. A Pallas kernel has no estimate: it is compiled alone,
its final schedule is dumped, and the bundles of its inner loop are counted. A bundle takes one
cycle if nothing stalls. The time of collectives is their bytes over the bandwidth of the chip's
links, without latency. Other operations without an estimate, such as copies, gathers and sorts, are
listed. The time to write and read their results once is reported separately and not added, because
much of it overlaps with other work.
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

    clock: float  # cycles per second
    memory: float  # bytes per second from and to its memory
    links: float  # bytes per second to its neighbours


CHIPS = {"TPU v5 lite": Chip(1.5e9, 819e9, 200e9)}
_COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
# Operations that are free or counted at their start; custom calls by their targets.
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"),
    *("partition-id", "replica-id", "iota", "opt-barrier", "async-update"),
    *("AllocateBuffer", "AssumeGatherIndicesInBound", "ConcatBitcast"),
}


class _Text(NamedTuple):
    """A compiled program, and how to count the bundles of its kernels."""

    program: Program
    scopes: dict[str, str | None]
    bundles_of: Callable[[Kernel], Bundles]


class _Cost:
    """The running sums."""

    def __init__(self) -> None:
        self.cycles: Counter[str] = Counter()  # by module/part, kernels included
        self.steps = 0  # fusions and kernels, executed one after another
        self.kernels: Counter[tuple[Kernel, str]] = Counter()  # calls, by kernel and module/part
        self.collective_bytes = 0
        self.unknown: Counter[str] = Counter()  # operations without an estimate, by kind
        self.unknown_bytes: Counter[str] = Counter()  # of their results, by module/part

    def __iadd__(self, other: "_Cost") -> "_Cost":
        self.cycles += other.cycles
        self.steps += other.steps
        self.kernels += other.kernels
        self.collective_bytes += other.collective_bytes
        self.unknown += other.unknown
        self.unknown_bytes += other.unknown_bytes
        return self

    def order(self) -> tuple[int, int, int]:
        """The key by which the sides of a branch are compared."""
        unknown = sum(self.unknown_bytes.values())
        return sum(self.cycles.values()), self.collective_bytes, unknown


def estimate(
    text: str, device_kind: str, bundles_of: Callable[[Kernel], Bundles] | None = None
) -> dict[str, Any]:
    """Estimated seconds of one round on one device, by module, from the compiled text.

    `bundles_of`: replaces `count_bundles`, which compiles a kernel to count its bundles. Raises
    `RunError` if they cannot be counted.
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
                "keys_per_step": kernel.keys,
                "words": calls * kernel.words,
                "words_per_key": 2048 * kernel.side,
                "bundles_per_key": bundles.inner,
                "bundles_per_step_overhead": bundles.outer,
                "cycles": cycles,
                "gwords_per_s": calls * kernel.words / cycles * clock / 1e9,
                "gwords_per_s_inner_loop": 2048 * kernel.side / bundles.inner * clock / 1e9,
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
        "collective_seconds": sent,
        "collective_bytes": cost.collective_bytes,
        "cycles": sum(cost.cycles.values()),
        "clock_hz": clock,
        "steps": cost.steps,
        "kernels": kernels,
        "operations_without_estimate": dict(cost.unknown),
        "seconds_without_estimate": sum(moved.values()),
        "how": (
            "fusions: the compiler's estimated_cycles times the trip counts of their loops; "
            "kernels: grid x (overhead of a step + keys x bundles per key) from the final "
            "schedule; branches: the more expensive side; collectives: bytes of their results over "
            "the links' bandwidth; operations without an estimate are not in the sum: "
            "seconds_without_estimate is the time to write and read their results once; no time is "
            "measured"
        ),
    }


def _add(cost: _Cost, text: _Text, computation: str, times: int) -> None:
    """Adds a computation that runs `times` times; of a branch the more expensive side."""
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
            cost += max(sides, key=_Cost.order, default=_Cost())
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
    """Bytes of a collective's results, 0 for other operations; it may be part of a fusion."""
    if operation.kind.removesuffix("-start") in _COLLECTIVES:
        return result_bytes(operation)
    if operation.kind != "fusion":
        return 0
    fused = [line for name in operation.inside for line in program.get(name, {}).values()]
    return sum(_sent(program, line) for line in fused)
