"""Common code of the benchmarks: pinning, interleaved timing, the machine, tables and JSON.

Absolute times drift on a shared machine; the ratio of two interleaved timings does not. So every
benchmark times its candidates A B C A B C ... and compares within one run. On a single core it can
count CPU seconds, which other processes do not affect.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

Call = Callable[[], object]

os.environ["SSDDL_PROGRAM_CACHE"] = "off"  # a benchmark compiles, and leaves the user's cache alone


def arguments(description: str | None, cores: bool = True) -> argparse.ArgumentParser:
    """A parser with the flags common to all benchmarks."""
    parser = argparse.ArgumentParser(description=(description or "").split("\n")[0])
    parser.add_argument("--tiny", action="store_true", help="a tiny size, to show that it works")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    if cores:
        parser.add_argument("--cores", type=int, default=2, help="cores to pin to [2]")
    return parser


def pin(cores: int) -> int:
    """Pins this process to `cores` cores, with one JAX device each. Call it before importing jax.

    Returns the number of cores, at most those that the process may use.
    """
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        cores = min(cores, len(allowed))
        os.sched_setaffinity(0, set(allowed[-cores:]))
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={cores}".strip()
    return cores


def in_turns(calls: Mapping[str, Call], turns: int, cores: int) -> dict[str, list[float]]:
    """Seconds of each call, interleaved, after one warm-up. Calls must block until done.

    CPU seconds on one core, wall-clock seconds on more.
    """
    now = process_time if cores == 1 else perf_counter
    for call in calls.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(turns):
        for name, call in calls.items():
            begin = now()
            call()
            seconds[name].append(now() - begin)
    return seconds


def median(values: Sequence[float]) -> float:
    """The median."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def best_and_median(seconds: Sequence[float]) -> dict[str, float]:
    """The minimum and the median."""
    return {"best": min(seconds), "median": median(seconds)}


def machine(cores: int) -> dict[str, Any]:
    """The processor and how many of its cores were used."""
    from ssddl_jax.running.environment import processor

    return {"cpu": processor(), "cores_used": cores, "cores": os.cpu_count()}


def command() -> str:
    """The command line of this process, with the script's path relative to the checkout."""
    return " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])


def record(path: Path | None, cores: int, results: Mapping[str, Any]) -> None:
    """Writes results with the command, the machine and the versions, if `path` is given."""
    if path is None:
        return
    from ssddl_jax.running.environment import versions

    whole = {
        "command": command(),
        "machine": machine(cores),
        "versions": versions(),
        **rounded(results),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


def rounded(tree: Any) -> Any:
    """Rounds floats to four significant digits."""
    if isinstance(tree, float):
        return float(f"{tree:.4g}")
    if isinstance(tree, Mapping):
        return {key: rounded(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [rounded(value) for value in tree]
    return tree


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table."""
    cells = [[f"{c:.4g}" if isinstance(c, float) else str(c) for c in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(head), *cells]) for i in range(len(head))]

    def line(row: Sequence[str]) -> str:
        return "| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |"

    return "\n".join([line(head), line(["-" * w for w in widths]), *map(line, cells)])
