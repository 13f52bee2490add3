"""What does privacy add to a round of ten, beyond the words that it must make?

Whole rounds in which ten members train mlp-64 for one step: protocol plain, engine ideal, and every
share of the complete graph. A round is allowed plain's time, its words at 0.7 of the rate of the
share kernel at n = 64, and 0.3 ms. Then the secure sum of ten updates alone, each pair's share made
once, on one core and on two, beside NumPy with AES-128-CTR on one thread. Every candidate runs in a
process of its own, in turns.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import measure

OF_THE_RATE, FIXED = 0.7, 0.0003  # seconds
TO_NUMPY = {1: 0.8, 2: 1.0}  # NumPy's seconds over ours, at least, by cores
BENCH = ["-m", "ssddl_jax", "bench"]
NUMPY = [str(Path(__file__).parent / "peers" / "numpy_sum.py"), "--prg", "AES-128-CTR"]
ROUNDS = {
    "plain": ["--protocol", "plain"],
    "ideal": ["--engine", "ideal"],
    "complete": ["--engine", "pairwise", "--neighbours", "complete"],
}


def timed(flags: list[str], cores: int) -> dict[str, Any]:
    """What a process pinned to `cores` cores printed."""
    allowed = sorted(os.sched_getaffinity(0))[-cores:]
    environment = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "NPROC")}
    done = subprocess.run(
        [sys.executable, *flags, "--json"],
        preexec_fn=lambda: os.sched_setaffinity(0, allowed),
        env=environment,
        check=True,
        capture_output=True,
        encoding="utf-8",
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert result.get("exact") is not False, "shares did not cancel"
    return result


def seconds_of(result: dict[str, Any]) -> list[float]:
    """The seconds of every repetition."""
    return list(result.get("seconds_per_round") or result["seconds"])


def main() -> None:
    """Measures, prints the tables, writes the JSON."""
    parser = measure.arguments(__doc__, cores=False)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=100)
    options = parser.parse_args()
    members, kernel, dimension, model = 10, 64, 50_890, "mlp-64"
    if options.tiny:
        options.turns, options.repeats, kernel, dimension, model = 1, 1, 10, 100, "linear"
    size = ["--group-size", str(members), "--dimension", str(dimension)]
    again = ["--repeats", str(options.repeats)]
    train = ["round", "--participants", str(members), "--model", model, *again]
    alone = ["share", "--group-size", str(kernel), "--dimension", str(dimension), "--repeats", "5"]
    most = min(2, len(os.sched_getaffinity(0)))
    tasks = {name: ([*BENCH, *train, *flags], most) for name, flags in ROUNDS.items()}
    tasks["kernel"] = ([*BENCH, *alone], most)
    tasks["NumPy"] = ([*NUMPY, *size, *again], 1)
    cores = [1] if options.tiny else [1, 2]
    for count in cores:
        tasks[f"sum {count}"] = ([*BENCH, "share", *size, "--shares", "paired", *again], count)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in tasks}
    for _ in range(options.turns):
        for name, (flags, count) in tasks.items():
            found[name].append(timed(flags, count))
    took = {
        name: measure.best_and_median([s for one in results for s in seconds_of(one)])
        for name, results in found.items()
    }
    width = found["plain"][0]["parameters"] + 1
    words = {"plain": 0, "ideal": members * width, "complete": members * (members - 1) * width}
    made = kernel * (kernel - 1) * (dimension + 1)
    rounds = {}
    for name in ROUNDS:
        of = {"words": words[name]}
        for key in ("best", "median"):
            of[key] = took[name][key]
            of[f"allowed_{key}"] = took["plain"][key] + FIXED * bool(words[name])
            of[f"allowed_{key}"] += words[name] * took["kernel"][key] / (OF_THE_RATE * made)
        rounds[name] = of
    head = ["round of 10", "words", "ms", "allowed", "best, ms", "allowed"]
    keys = ("median", "allowed_median", "best", "allowed_best")
    rows = [[name, of["words"], *(1e3 * of[key] for key in keys)] for name, of in rounds.items()]
    print(measure.table(head, rows))
    sums = {}
    for count in cores:
        of = took[f"sum {count}"]
        sums[str(count)] = of | {f"to_numpy_{k}": took["NumPy"][k] / of[k] for k in of}
    rows = [
        [
            count,
            1e3 * of["median"],
            of["to_numpy_median"],
            of["to_numpy_best"],
            TO_NUMPY[int(count)],
        ]
        for count, of in sums.items()
    ]
    print(measure.table(["secure sum, cores", "ms", "NumPy / ours", "by the best", "goal"], rows))
    rate = {key: made / value for key, value in took["kernel"].items()}
    results = {"rounds": rounds, "sums": sums, "numpy": took["NumPy"], "kernel_rate": rate}
    measure.record(options.out, most, results)


if __name__ == "__main__":
    main()
