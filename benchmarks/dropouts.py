"""What does a round cost when 0, 10 or 30 % of members vanish: ssddl by rule, secagg, secagg+?

Runs `ssddl bench share` for each case, alternating. One program does the computation of all roles,
and the whole sum is checked word for word.
"""

import json
import subprocess
import sys
from typing import Any

import measure

RULES = {
    "ssddl retry": ["--dropout-rule", "retry"],
    "ssddl reveal": ["--dropout-rule", "reveal"],
    "ssddl shamir": ["--dropout-rule", "shamir"],
    "secagg": ["--protocol", "secagg"],
    "secagg+": ["--protocol", "secagg+"],
}
TINY = ("ssddl reveal", "secagg+")
RATES = (0.0, 0.1, 0.3)
FLAGS = ["--shares", "paired", "--max-dropout", "0.3"]


def threshold_of(members: int) -> int:
    """SecAgg's least threshold t that tolerates max_corrupt = 0.1 of the members: t - 2 of them."""
    return members // 10 + 2


def bench(flags: list[str]) -> dict[str, Any]:
    """One measurement, in its own process."""
    command = [sys.executable, "-m", "ssddl_jax", "bench", "share", *flags, "--json"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        sys.exit(f"{' '.join(flags)}: {done.stderr.strip()}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main() -> None:
    """Measures, prints the table, writes the JSON."""
    parser = measure.arguments(__doc__)
    parser.add_argument("--members", default="100,1000")
    parser.add_argument("--dimension", type=int, default=50_890)
    parser.add_argument("--turns", type=int, default=2)
    options = parser.parse_args()
    rules, rates = RULES, RATES
    if options.tiny:
        rules, rates = {name: RULES[name] for name in TINY}, RATES[-1:]
        options.members, options.dimension, options.turns = "8", 200, 1
    cores = measure.pin(options.cores)
    sizes = [int(text) for text in options.members.split(",")]
    seconds: dict[tuple[int, str, float], list[float]] = {}
    exact = True
    for _ in range(options.turns):
        for members in sizes:
            for rule, flags in rules.items():
                if (
                    rule == "ssddl shamir" and members > 100
                ):  # shares of vectors grow with n t d: minutes
                    continue
                for rate in rates:
                    size = ["--group-size", str(members), "--dimension", str(options.dimension)]
                    again = ["--repeats", "1" if members > 100 else "3"]
                    if rule == "secagg":
                        again += ["--threshold", str(threshold_of(members))]
                    made = bench([*size, *again, *FLAGS, *flags, "--dropout", str(rate)])
                    exact &= made["exact"]
                    seconds.setdefault((members, rule, rate), []).extend(made["seconds"])
                    print(members, rule, rate, f"{made['seconds_median']:.3g} s", flush=True)
    assert exact, "a sum is wrong"
    cells = [
        {"members": m, "rule": rule, "dropout": rate, **measure.best_and_median(times)}
        for (m, rule, rate), times in seconds.items()
    ]
    head = ["members", "rule", *(f"{rate:.0%} vanish, s" for rate in rates)]
    rows = [
        [m, rule, *(measure.median(seconds[m, rule, rate]) for rate in rates)]
        for m, rule in dict.fromkeys((m, rule) for m, rule, _ in seconds)
    ]
    print(measure.table(head, rows))
    measure.record(options.out, cores, {"dimension": options.dimension, "cells": cells})


if __name__ == "__main__":
    main()
