"""How does the time of sharing grow with the group, the message and the graph?

Measures seconds of `ssddl bench share` against n (at fixed k, and for the complete graph), d and
k, with the others fixed. Fits exponents by least squares on logarithms, and reports how far the
points are from that line.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import measure


class Sweep(NamedTuple):
    """A sweep over one quantity, with the others fixed."""

    name: str
    quantity: str  # n, d or k
    fixed: dict[str, int]
    values: tuple[int, ...]
    expected: float  # the exponent that counting words predicts

    def setting(self, value: int) -> dict[str, int]:
        """n, d and k at one point; k of 0 is the complete graph."""
        return {**self.fixed, self.quantity: value}


SWEEPS = (
    Sweep("n, k = 32", "n", {"d": 10_000, "k": 32}, (250, 500, 1000, 2000, 4000), 1),
    Sweep("n, complete", "n", {"d": 10_000, "k": 0}, (32, 64, 128, 256), 2),
    Sweep("d", "d", {"n": 64, "k": 0}, (12_500, 25_000, 50_000, 100_000, 200_000), 1),
    Sweep("k", "k", {"n": 1000, "d": 10_000}, (16, 32, 64, 128, 256), 1),
)
TINY = (
    Sweep("n, k = 4", "n", {"d": 200, "k": 4}, (30, 60), 1),
    Sweep("d", "d", {"n": 8, "k": 0}, (200, 400), 1),
)


def fit(xs: list[int], ys: list[float]) -> tuple[float, float]:
    """(exponent, largest factor between a point and the line), by least squares on logarithms."""
    slope, offset = np.polyfit(np.log(xs), np.log(ys), 1)
    away = np.abs(np.log(ys) - (slope * np.log(xs) + offset))
    return float(slope), float(np.exp(away.max()))


def plot(path: Path, sweeps: list[dict[str, Any]]) -> None:
    """Plots seconds against each quantity on logarithmic axes, if matplotlib is installed."""
    try:
        import matplotlib
    except ImportError:
        print("no plot: matplotlib is not installed")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(sweeps), figsize=(3.2 * len(sweeps), 3), squeeze=False)
    for axis, sweep in zip(axes[0], sweeps, strict=True):
        xs = [point["value"] for point in sweep["points"]]
        ys = [point["best"] for point in sweep["points"]]
        offset = np.mean(np.log(ys)) - sweep["exponent"] * np.mean(np.log(xs))
        line = np.exp(offset) * np.asarray(xs, float) ** sweep["exponent"]
        axis.loglog(xs, line, "-", color="0.7")
        axis.loglog(xs, ys, "o")
        axis.set_title(f"{sweep['name']}: exponent {sweep['exponent']:.2f}", fontsize=9)
        axis.set_xlabel(sweep["quantity"])
    axes[0][0].set_ylabel("seconds")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    print(f"plot: {path}")


def main() -> None:
    """Times all points, fits the exponents, prints the table, writes the JSON."""
    parser = measure.arguments(__doc__)
    parser.add_argument(
        "--turns", type=int, default=2, help="how often each point is compiled and timed [2]"
    )
    parser.add_argument("--prg", default="chacha20", help="PRG of the shares [chacha20]")
    options = parser.parse_args()
    cores = measure.pin(options.cores)
    from ssddl_jax import Config
    from ssddl_jax.measure.bench import ShareBench, bench_share

    sweeps, turns, repeats = (TINY, 1, 2) if options.tiny else (SWEEPS, options.turns, 3)
    prg = "chacha8" if options.tiny else options.prg
    seconds: dict[tuple[str, int], list[float]] = {}
    for _ in range(turns):
        for sweep in sweeps:
            for value in sweep.values:
                at = sweep.setting(value)
                config = Config(
                    participants=at["n"],
                    group_size="all",
                    neighbours=at["k"] or "complete",
                    prg=prg,
                )
                result = bench_share(config, ShareBench(at["n"], at["d"], repeats))
                assert result["exact"], "shares did not cancel"
                seconds.setdefault((sweep.name, value), []).extend(result["seconds"])
    results, rows = [], []
    for sweep in sweeps:
        points = [
            {"value": value, **measure.best_and_median(seconds[sweep.name, value])}
            for value in sweep.values
        ]
        slope, away = fit(list(sweep.values), [point["best"] for point in points])
        results.append(
            {
                **sweep._asdict(),
                "exponent": slope,
                "largest_factor_from_line": away,
                "points": points,
            }
        )
        times = ", ".join(f"{point['value']}: {point['best']:.3g}" for point in points)
        rows.append([sweep.name, slope, sweep.expected, f"{100 * (away - 1):.1f} %", times])
    head = ["sweep", "exponent", "expected", "largest deviation", "seconds (best)"]
    print(measure.table(head, rows))
    measure.record(options.out, cores, {"prg": prg, "sweeps": results})
    if options.out:
        plot(options.out.with_suffix(".png"), results)


if __name__ == "__main__":
    main()
