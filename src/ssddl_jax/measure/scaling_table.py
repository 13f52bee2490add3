"""The table and the picture of a sweep over participants."""

from pathlib import Path
from typing import Any

import numpy as np

from ssddl_jax.common.text import literal
from ssddl_jax.config.protocols import PROTOCOLS

STEADY = 100  # growth is fitted from here on: below, the fixed costs of a round dominate


def markdown(result: dict[str, Any]) -> str:
    """The sweep as a Markdown table."""
    rows = result["rows"]
    plain = {
        row["participants"]: row["seconds_per_round_median"]
        for row in rows
        if row["curve"] == "plain" and "wall_seconds" in row
    }
    lines = [
        "| participants | curve | partners | s per round | us per participant | x plain "
        "| compile s | peak MB | kB up per participant |",
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        n = row["participants"]
        if "left_out" in row:
            lines.append(
                f"| {n:,} | {row['curve']} | | left out: {literal(row['left_out'])} | | | | | |"
            )
            continue
        seconds = row["seconds_per_round_median"]
        over = f"{seconds / plain[n]:.2f}" if n in plain else ""
        shares = PROTOCOLS[row["protocol"]].secure and row["engine"] != "ideal"
        partners = row["neighbours"] if shares else ""
        lines.append(
            f"| {n:,} | {row['curve']} | {partners} | {seconds:.4g} | {1e6 * seconds / n:.4g} "
            f"| {over} | {row['compile_seconds']:.1f} | {row['peak_memory_mb']:,.0f} "
            f"| {row['bytes_up_per_participant'] / 1e3:.4g} |"
        )
    for curve, fit in result["growth"].items():
        lines.append(
            f"\n{curve}: seconds grow as participants^{fit['exponent']:.2f} from {STEADY} on; "
            f"seconds per participant vary by a factor of {fit['seconds_each_max_over_min']:.2f}"
        )
    if result["training"]:
        lines.append("\n| participants | rounds | seeds | accuracy | +- (95 %) |")
        lines.append("|---:|---:|---:|---:|---:|")
    for row in result["training"]:
        if "left_out" in row:
            lines.append(
                f"| {row['participants']:,} | left out: {literal(row['left_out'])} | | | |"
            )
            continue
        half, seeds = row["half_width_95"], len(row["of_each_seed"])
        lines.append(
            f"| {row['participants']:,} | {row['rounds']} | {seeds} | {row['accuracy']:.4f} "
            f"| {'' if half is None else f'{half:.4f}'} |"
        )
    machine = (
        f"{literal(result['device'])}, jax {result['versions']['jax']}" if result["device"] else ""
    )
    return "\n".join(lines) + f"\n\n{machine}\n"


def plot(result: dict[str, Any], path: Path) -> None:
    """Writes a PNG: seconds per round and per participant, peak memory, and accuracy if trained."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = [
        ("seconds per round", lambda row: row["seconds_per_round_median"]),
        (
            "us per participant",
            lambda row: 1e6 * row["seconds_per_round_median"] / row["participants"],
        ),
        ("peak memory, MB", lambda row: row["peak_memory_mb"]),
    ]
    trained = [row for row in result["training"] if "left_out" not in row]
    count = len(panels) + bool(trained)
    figure, axes = pyplot.subplots(1, count, figsize=(4.4 * count, 4), layout="constrained")
    for (title, value), axis in zip(panels, axes, strict=False):
        for curve in dict.fromkeys(row["curve"] for row in result["rows"]):
            rows = [r for r in result["rows"] if r["curve"] == curve and "wall_seconds" in r]
            if rows:
                xs, ys = [r["participants"] for r in rows], [value(r) for r in rows]
                fit = result["growth"].get(curve)
                grows = f" (N^{fit['exponent']:.2f})" if fit and axis is axes[0] else ""
                axis.loglog(xs, ys, marker="o", label=curve + grows)
        if axis is axes[2]:
            axis.set(yscale="linear", ylim=(0, None))
        axis.set(xlabel="participants", title=title)
        axis.grid(alpha=0.3, which="both")
        if axis.lines:
            axis.legend()
    if trained:
        xs, ys = ([row[key] for row in trained] for key in ("participants", "accuracy"))
        axes[-1].semilogx(xs, ys, marker="o")
        if trained[0]["half_width_95"] is not None:
            mean, half = np.array(ys), np.array([row["half_width_95"] for row in trained])
            axes[-1].fill_between(xs, mean - half, mean + half, alpha=0.2)
        rounds, seeds = trained[0]["rounds"], len(trained[0]["of_each_seed"])
        axes[-1].set(xlabel="participants", title=f"accuracy, {rounds} rounds, {seeds} seeds, 95 %")
        axes[-1].grid(alpha=0.3)
    figure.suptitle(f"One round; {result['device']}", parse_math=False)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
