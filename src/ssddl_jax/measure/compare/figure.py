"""The picture of a comparison: accuracy against bytes and against seconds, round by round."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from ssddl_jax.config.protocols import PROTOCOLS

_BAND = [protocol.name for protocol in PROTOCOLS.values() if protocol.reference]


def draw(result: dict[str, Any], path: Path) -> None:
    """Writes a PNG: two panels with logarithmic axes; the grey band lies between the references."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in result["rows"] if "left_out" not in row]
    figure, axes = pyplot.subplots(1, 2, figsize=(13, 5.2), layout="constrained", sharey=True)
    panels = [
        ("bytes through a member's link, MB", lambda r: (r["bytes_up"] + r["bytes_down"]) / 1e6),
        ("seconds of computation, end to end", lambda r: r["seconds_a_round"]),
    ]
    styles = {row["name"]: style for row, style in zip(rows, _styles(len(rows)), strict=True)}
    for (label, cost), axis in zip(panels, axes, strict=True):
        _band(axis, rows)
        for row in rows:
            if row["protocol"] in _BAND:
                continue
            color, line = styles[row["name"]]
            steps = np.arange(1, len(row["accuracy_by_round"]) + 1)
            xs, ys = steps * cost(row), row["accuracy_by_round"]
            axis.plot(xs, ys, line, color=color, label=row["name"])
            half = row["half_width_95"]
            axis.errorbar(
                xs[-1:], ys[-1:], yerr=half, fmt="o", color=color, capsize=3, markersize=4
            )
        axis.set(xscale="log", xlabel=f"{label} (cumulative)")
        axis.grid(alpha=0.3, which="both")
    axes[0].set_ylabel("test accuracy")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=9)
    figure.suptitle(
        f"{result['model']} on {result['data']}, {result['participants']:,} participants, "
        f"{result['group_size']:,} per round, {result['rounds']} rounds, {result['seeds']} seeds "
        "(bars: 95 %)",
        fontsize=11,
        parse_math=False,  # a dollar sign in a name is literal
    )
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _styles(count: int) -> list[tuple[Any, str]]:
    colors = matplotlib.colormaps["tab10"].colors  # type: ignore[attr-defined]
    lines = ["-", "--", ":"]
    return [(colors[i % 10], lines[(i // 10 + i) % 3]) for i in range(count)]


def _band(axis: Any, rows: list[dict[str, Any]]) -> None:
    ends = {row["protocol"]: row["accuracy"] for row in rows if row["protocol"] in _BAND}
    for name, accuracy in ends.items():
        axis.axhline(accuracy, color="0.4", linewidth=0.8)
        axis.annotate(name, (0.01, accuracy), xycoords=("axes fraction", "data"), fontsize=8,
            color="0.3", va="bottom")  # fmt: skip
    if len(ends) == 2:
        axis.axhspan(*sorted(ends.values()), color="0.92", zorder=0)
