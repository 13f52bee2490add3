"""Plain NumPy: the paired secure sum on a complete graph, each pair's mask made once.

The sums are those of `share_throughput.py`, which says more; AES comes from OpenSSL.
"""

import argparse
import statistics
import sys
from pathlib import Path

import numpy as np
import workload

sys.path.append(str(Path(__file__).resolve().parent.parent))
import share_throughput


def main() -> None:
    """Sums, checks every word, times."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--group-size", type=int, default=50, metavar="n")
    parser.add_argument("--dimension", type=int, default=50_890, metavar="d")
    parser.add_argument("--prg", choices=share_throughput.BASELINES, default="AES-128-CTR")
    parser.add_argument("--repeats", type=int, default=5, metavar="R")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    asked = parser.parse_args()
    shape = (asked.group_size, asked.dimension)
    messages = np.random.default_rng(0).integers(0, 2**32, shape, np.uint32)
    expected = messages.sum(axis=0, dtype=np.uint32)
    source = share_throughput.BASELINES[asked.prg]

    def step() -> None:
        aggregate = share_throughput.numpy_sum(source, messages, asked.threads)
        if not np.array_equal(aggregate, expected):
            raise SystemExit("NumPy: the masks did not cancel")

    step()
    seconds = workload.timed(step, asked.repeats)
    workload.report(
        {
            "peer": f"NumPy {asked.prg}",
            "seconds_median": statistics.median(seconds),
            "seconds": seconds,
            "group_size": asked.group_size,
            "parameters": asked.dimension,
            "neighbours": asked.group_size - 1,
            "threads": asked.threads,
        },
        ["numpy", "cryptography"],
        asked.json,
    )


if __name__ == "__main__":
    main()
