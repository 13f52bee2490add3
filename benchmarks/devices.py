"""How much faster are two devices than one when sharing dominates?

Runs `ssddl bench share` on one core with one device and on two cores with two devices, each in its
own process, alternating. The words of the uploads must be equal.
"""

import json
import os
import subprocess
import sys
from typing import Any

import measure

WANTED = 1.7
COMMAND = [sys.executable, "-m", "ssddl_jax", "bench", "share"]
WORK = {
    "pairwise, complete, n = 64": ["--group-size", "64"],
    "pairwise, 32 partners, n = 1000": ["--group-size", "1000", "--neighbours", "32"],
    "ideal, n = 2000": ["--group-size", "2000", "--engine", "ideal"],
}
TINY = {"pairwise, complete, n = 8": ["--group-size", "8", "--dimension", "100"]}


def bench(flags: list[str], cores: int, repeats: int) -> dict[str, Any]:
    """Runs `ssddl bench share` pinned to `cores` cores, with as many devices."""
    allowed = sorted(os.sched_getaffinity(0))[-cores:]
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    done = subprocess.run(
        [*COMMAND, *flags, "--repeats", str(repeats), "--json"],
        preexec_fn=lambda: os.sched_setaffinity(0, allowed),
        env=environment,
        check=True,
        capture_output=True,
        encoding="utf-8",
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main() -> None:
    """Measures, prints the table, writes the JSON."""
    parser = measure.arguments(__doc__, cores=False)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    most = min(2, len(os.sched_getaffinity(0)))
    rows = []
    for name, flags in (TINY if options.tiny else WORK).items():
        seconds: dict[int, list[float]] = {1: [], most: []}
        digests = set()
        for _ in range(1 if options.tiny else options.turns):
            for cores, kept in seconds.items():
                result = bench(flags, cores, 1 if options.tiny else 7)
                assert result["exact"], "shares did not cancel"
                kept.append(result["seconds_median"])
                digests.add(result["uploads_sha256"])
        assert len(digests) == 1, "uploads depend on the devices"
        one, many = (measure.median(kept) for kept in seconds.values())
        rows.append({"work": name, "one": one, "two": many, "times": one / many})
    head = ["work", "one device, s", f"{most} devices, s", "speed-up", f"at least {WANTED}"]
    print(measure.table(head, [[*row.values(), row["times"] >= WANTED] for row in rows]))
    measure.record(options.out, most, {"rows": rows})


if __name__ == "__main__":
    main()
