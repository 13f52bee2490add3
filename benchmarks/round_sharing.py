"""How fast are shares generated in a whole round, after subtracting the time of training?

Runs `ssddl bench round` with `neighbours auto`, the same round under protocol plain, and `ssddl
bench share` alone, each in its own process, alternating. It compares delivered words (both ends of
every share) per second that sharing adds with the rate of the share kernel alone.
"""

import json
import subprocess
import sys
from typing import Any

import measure

WANTED = 0.6
COMMAND = [sys.executable, "-m", "ssddl_jax", "bench"]


def bench(*flags: str) -> dict[str, Any]:
    """One measurement, in its own process."""
    done = subprocess.run(
        [*COMMAND, *flags, "--json"], check=True, capture_output=True, encoding="utf-8"
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main() -> None:
    """Measures, prints the table, writes the JSON."""
    parser = measure.arguments(__doc__, cores=False)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--participants", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    if options.tiny:
        options.turns, options.participants, options.repeats = 1, 30, 1
    again = ["--repeats", str(options.repeats)]
    model = "linear" if options.tiny else "mlp-64"
    work = ["round", "--participants", str(options.participants), "--model", model, *again]
    alone = ["share", "--group-size", "64", *again]
    if options.tiny:
        alone += ["--dimension", "100"]
    rates: dict[str, list[float]] = {"kernel": [], "round": []}
    for _ in range(options.turns):
        kernel = bench(*alone)
        plain = bench(*work, "--protocol", "plain")
        shared = bench(*work, "--neighbours", "auto")
        assert kernel["exact"], "shares did not cancel"
        assert shared["exact"], "shares did not cancel"
        delivered = 2 * options.participants * shared["neighbours"] * (shared["parameters"] + 1)
        seconds = min(shared["seconds_per_round"]) - min(plain["seconds_per_round"])
        rates["round"].append(delivered / seconds)
        rates["kernel"].append(kernel["share_words_delivered"] / min(kernel["seconds"]))
    kernel_rate, round_rate = (measure.median(rates[name]) for name in ("kernel", "round"))
    ratio = round_rate / kernel_rate
    rows = [["share kernel alone, n = 64", kernel_rate / 1e9]]
    rows += [[f"inside a round, k = {shared['neighbours']}", round_rate / 1e9]]
    print(measure.table(["what", "10^9 delivered words/s"], rows))
    print(f"ratio {ratio:.2f}; the target is at least {WANTED}")
    found = {"participants": options.participants, "neighbours": shared["neighbours"]}
    measure.record(options.out, 2, {**found, "rates": rates, "ratio": ratio})


if __name__ == "__main__":
    main()
