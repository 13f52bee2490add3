"""Seconds of a round as a TPU's or GPU's compiler estimates them; never a measured time.

The TPU's compiler annotates every fusion with `estimated_cycles`, the GPU's every fusion and
product with `exec_time_us`. They are summed by module, multiplied by the trip counts of the loops
around them. A Pallas kernel has no estimate. For a TPU it is compiled alone, its final schedule is
dumped, and the bundles of its inner loop are counted: a bundle takes one cycle if nothing stalls.
For a GPU its words are divided by the rate that one GPU was measured at. The time of collectives is
their bytes over the bandwidth of the chip's links, without latency. Other operations without an
estimate, such as copies, gathers and sorts, are listed. The time to write and read their results
once is reported separately and not added, because much of it overlaps with other work.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

from ssddl_jax.measure import gpu_kernels
from ssddl_jax.measure.gpu_topology import GPUS, Gpu
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
    """Rates of a chip (Google Cloud's TPU documentation; for GPUs see `GPUS`)."""

    clock: float  # cycles per second
    memory: float  # bytes per second from and to its memory
    links: float  # bytes per second to its neighbours


CHIPS = {
    "TPU v5 lite": Chip(1.5e9, 819e9, 200e9),
    **{gpu.name: Chip(gpu.clock, gpu.bandwidth, gpu.links) for gpu in GPUS.values()},
}
_COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
# Operations that are free or counted at their start; custom calls by their targets.
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"),
    *("partition-id", "replica-id", "iota", "opt-barrier", "async-update"),
    *("AllocateBuffer", "AssumeGatherIndicesInBound", "ConcatBitcast"),
}


class _Judge(NamedTuple):
    """What a platform's compiled text says of an operation."""

    cycles_of: Callable[[Operation], float | None]  # by the compiler
    kernel_of: Callable[[Operation], Any]  # a call of the share kernel, or None
    kernel_cycles: Callable[[Any], float]
    described: Callable[[Any, int], dict[str, Any]]  # a kernel that is called so often
    how: str
    start: float | None = None  # seconds to start an operation, if it takes any


class _Text(NamedTuple):
    """A compiled program, and how to read it."""

    program: Program
    scopes: dict[str, str | None]
    judge: _Judge


class _Cost:
    """The running sums."""

    def __init__(self) -> None:
        self.cycles: defaultdict[str, float] = defaultdict(float)  # by module/part, with kernels
        self.steps = 0  # fusions and kernels, executed one after another
        self.kernels: Counter[tuple[Any, str]] = Counter()  # calls, by kernel and module/part
        self.collective_bytes = 0
        self.unknown: Counter[str] = Counter()  # operations without an estimate, by kind
        self.unknown_bytes: Counter[str] = Counter()  # of their results, by module/part

    def __iadd__(self, other: "_Cost") -> "_Cost":
        for scope, cycles in other.cycles.items():
            self.cycles[scope] += cycles
        self.steps += other.steps
        self.kernels += other.kernels
        self.collective_bytes += other.collective_bytes
        self.unknown += other.unknown
        self.unknown_bytes += other.unknown_bytes
        return self

    def order(self) -> tuple[float, int, int]:
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
    chip, cost = CHIPS[device_kind], _Cost()
    clock, gpu = chip.clock, next((g for g in GPUS.values() if g.name == device_kind), None)
    judge = _tpu(bundles_of or count_bundles, clock) if gpu is None else _gpu(gpu)
    _add(cost, _Text(computations(text), scopes_of(text), judge), entry(text), 1)
    kernels = [
        {
            "kernel": f"{KERNEL}{kernel.prg}_{kernel.terms}",
            "module": scope,
            "calls": calls,
            **judge.described(kernel, calls),
        }
        for (kernel, scope), calls in cost.kernels.items()
    ]
    modules = dict.fromkeys((*MODULES, OTHER), 0.0)
    for scope, cycles in cost.cycles.items():
        modules[scope.partition("/")[0]] += cycles / clock
    moved = {scope: 2 * count / chip.memory for scope, count in cost.unknown_bytes.items()}
    sent = cost.collective_bytes / chip.links
    starts = cost.steps + cost.unknown.total()
    return {
        "seconds": sum(modules.values()) + sent,
        "seconds_by_module": modules,
        "collective_seconds": sent,
        "collective_bytes": cost.collective_bytes,
        "cycles": round(sum(cost.cycles.values())),
        "clock_hz": clock,
        "steps": cost.steps,
        **({"seconds_of_starts": starts * judge.start} if judge.start else {}),
        "kernels": kernels,
        "operations_without_estimate": dict(cost.unknown),
        "seconds_without_estimate": sum(moved.values()),
        "how": f"{judge.how}; {_HOW}",
    }


_HOW = (
    "branches: the more expensive side; collectives: bytes of their results over the links' "
    "bandwidth; operations without an estimate are not in the sum: seconds_without_estimate is the "
    "time to write and read their results once; no time is measured"
)


def _tpu(bundles_of: Callable[[Kernel], Bundles], clock: float) -> _Judge:
    def cycles_of(operation: Operation) -> int | None:
        found = re.search(r'"estimated_cycles":"(\d+)"', operation.line)
        return int(found[1]) if found else None

    def described(kernel: Kernel, calls: int) -> dict[str, Any]:
        bundles = bundles_of(kernel)
        cycles = calls * bundles.cycles(kernel)
        return {
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

    how = (
        "fusions: the compiler's estimated_cycles times the trip counts of their loops; kernels: "
        "grid x (overhead of a step + keys x bundles per key) from the final schedule"
    )
    return _Judge(
        cycles_of, kernel_of, lambda kernel: bundles_of(kernel).cycles(kernel), described, how
    )


def _gpu(gpu: Gpu) -> _Judge:
    def cycles_of(operation: Operation) -> float | None:
        found = re.search(r'"exec_time_us":([\d.e+-]+)', operation.line)
        return float(found[1]) * 1e-6 * gpu.clock if found else None

    how = (
        "fusions and products: the compiler's exec_time_us, at full bandwidth and rate, times the "
        "trip counts of their loops; kernels: their words over the rate measured on an H200, by "
        "cores and clock; seconds_of_starts are not in the sum: a large round starts operations "
        "while others run, a small one waits for them"
    )
    return _Judge(
        cycles_of,
        gpu_kernels.kernel_of,
        lambda kernel: kernel.cycles(gpu),
        lambda kernel, calls: gpu_kernels.described(kernel, calls, gpu),
        how,
        gpu_kernels.START,
    )


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
        elif (kernel := text.judge.kernel_of(operation)) is not None:
            cost.kernels[kernel, scope] += times
            cost.cycles[scope] += times * text.judge.kernel_cycles(kernel)
            cost.steps += times
        elif (cycles := text.judge.cycles_of(operation)) is not None:
            cost.cycles[scope] += times * cycles
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
