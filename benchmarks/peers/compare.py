"""Peers side by side: other simulators and this one, the same work, in turns, as processes.

A ratio is a peer's seconds over ours in the same turn, so that what else the machine does weighs
on both. A peer whose environment is absent is left out, with the line that makes it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jobs as work

sys.path.append(str(Path(__file__).resolve().parent.parent))
import measure

LIMIT = 900  # seconds of one process

Result = dict[str, Any]  # what a process printed


def run(asked: work.Run) -> Result | None:
    """What one process printed; None, with a line on stderr, if it failed."""
    # Some machines name a kernel for old builds of OpenBLAS there, which slows a current NumPy.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
    command = [str(work.interpreter(asked.environment)), *asked.arguments]
    try:
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            timeout=LIMIT,
            check=True,
        )
    except subprocess.TimeoutExpired:
        print(f"{asked.name}: took more than {LIMIT} s", file=sys.stderr)
        return None
    except subprocess.CalledProcessError as error:
        last = [*error.stderr.strip().splitlines(), f"exit {error.returncode}"][-2:][0]
        print(f"{asked.name}: failed: {last}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def seconds(result: Result) -> list[float]:
    """Of each repetition."""
    return list(result.get("seconds_per_round") or result["seconds"])


def compare(job: work.Job, present: set[str]) -> dict[str, Any]:
    """One workload: ours and the peers that are present, in turns."""
    asked = [one for one in (*job.ours, *job.peers) if one.environment in present]
    turns: dict[str, list[Result]] = {one.name: [] for one in asked}
    load = [os.getloadavg()[0]]
    for _ in range(job.turns):
        for one in asked:
            result = run(one)
            if result is not None:
                turns[one.name].append(result)
        load.append(os.getloadavg()[0])
    peers = {one.name for one in job.peers}
    sides = {name: side(results) for name, results in turns.items() if results}
    for name in sides:
        if name in peers:
            sides[name]["times_ours"] = {
                one.name: ratios(turns[name], turns[one.name]) for one in job.ours
            }
    return {"load_average": load, "sides": sides}


def side(results: list[Result]) -> dict[str, Any]:
    """One side's seconds over all turns, memory, and what it measured."""
    every = [s for result in results for s in seconds(result)]
    kept = ("relative_error", "largest_error", "exact", "stage_seconds", "threads", "chunk")
    kept += ("devices", "neighbours", "prg", "versions")
    last = results[-1]
    return {
        "seconds_median": measure.median(every),
        "seconds_best": min(every),
        "turns": [measure.median(seconds(result)) for result in results],
        "peak_memory_mb": max(result["peak_memory_mb"] for result in results),
        **{key: last[key] for key in kept if last.get(key) is not None},
    }


def ratios(peer: list[Result], ours: list[Result]) -> dict[str, float] | None:
    """The peer's seconds over ours: the median of the turns', and that of the best repetitions."""
    both = list(zip(peer, ours, strict=False))
    if not both:
        return None
    medians = [measure.median(seconds(p)) / measure.median(seconds(o)) for p, o in both]
    best = min(s for p in peer for s in seconds(p)) / min(s for o in ours for s in seconds(o))
    return {"median": measure.median(medians), "best": best}


def main() -> None:
    """Runs every workload, prints a table, writes the JSON."""
    parser = measure.arguments(__doc__, cores=False)
    parser.add_argument(
        "--only", default="", help="workloads whose name holds this text; --out keeps the others"
    )
    options = parser.parse_args()
    chosen = [job for job in work.jobs(options.tiny) if options.only in job.name]
    if not chosen:
        names = ", ".join(job.name for job in work.jobs(options.tiny))
        parser.error(f"--only {options.only!r}: names none of: {names}")
    wanted = sorted({one.environment for job in chosen for one in job.peers} - {""})
    absent = [name for name in wanted if not work.interpreter(name).exists()]
    for name in absent:
        print(f"{name}: left out, no environment; to make it: {work.how_to_make(name)}")
    present = {"", *wanted} - set(absent)
    results = earlier(options.out) if options.only else {}
    for job in chosen:
        results[job.name] = {"command": measure.command(), **compare(job, present)}
        print(f"\n{job.name}\n\n{as_table(results[job.name], job)}", flush=True)
        whole = {"absent": absent, "workloads": results}
        measure.record(options.out, os.cpu_count() or 1, whole)  # kept if a later one is stopped
    failed = [
        f"{one.name} in {job.name}"
        for job in chosen
        for one in (*job.ours, *job.peers)
        if one.environment in present and one.name not in results[job.name]["sides"]
    ]
    if failed:
        raise SystemExit(f"no result from {'; '.join(failed)}")


def earlier(path: Path | None) -> dict[str, Any]:
    """The workloads that a results file holds, if there is one."""
    if path is None or not path.exists():
        return {}
    whole = json.loads(path.read_text(encoding="utf-8"))
    return {name: {"command": whole["command"], **one} for name, one in whole["workloads"].items()}


def as_table(result: dict[str, Any], job: work.Job) -> str:
    """Seconds and ratios of one workload."""
    names = [one.name for one in job.ours]
    rows = []
    for name, one in result["sides"].items():
        times = one.get("times_ours") or {}
        over = [(times.get(mine) or {}).get("median", "-") for mine in names]
        memory = round(one["peak_memory_mb"])
        rows.append([name, one["seconds_median"], one["seconds_best"], memory, *over])
    head = ["", "seconds, median", "best", "MB", *(f"times {name}" for name in names)]
    return measure.table(head, rows)


if __name__ == "__main__":
    main()
