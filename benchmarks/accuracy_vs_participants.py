"""How does accuracy change with the number of participants, for SSDDL and its rivals?

The paper's first question, on full MNIST and Fashion-MNIST, with mlp and cnn, and iid and non-iid
data. All training data are divided among N participants; ten of them take part in a round. One
program trains all seeds of a cell. Cells are written as they finish; a second call computes the
rest.
"""

import json
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import measure

PROTOCOLS = "plain,ssddl,dssgd:1,dssgd:0.1,dssgd:0.01,phong-lwe,snt,central,standalone"
PARTITIONS = ("iid", "shards:2")
SIZES = {
    ("mlp", "mnist"): (30, 90, 150),
    ("mlp", "fashion-mnist"): (90,),
    ("cnn", "mnist"): (90,),
    ("cnn", "fashion-mnist"): (90,),
}
ROUNDS = {"mlp": 15, "cnn": 6}
GROUP = 10


def cell(protocol: str, seeds: int, fields: dict[str, Any]) -> dict[str, Any]:
    """One protocol's accuracy on one setting."""
    import numpy as np

    import ssddl_jax as sd
    from ssddl_jax.measure.compare.rows import read_rows

    config = sd.Config(**fields)
    row = read_rows(protocol, config)[0].config
    if protocol == "ssddl":  # the same aggregates bit for bit, without pairwise shares
        row = replace(row, engine="ideal")
    begin = perf_counter()
    result = sd.run_seeds(row, range(seeds))
    mean, half = result.band()
    return {
        "protocol": protocol,
        **{key: fields[key] for key in ("data", "model", "partition", "participants")},
        "accuracy": float(mean[-1]),
        "half_width_95": None if seeds < 2 else float(half[-1]),
        "of_each_seed": [float(a) for a in result.accuracy[:, -1]],
        "by_round": [float(a) for a in mean],
        "exact": bool(np.all(result.exact)),
        "seconds": perf_counter() - begin,
    }


def settings(options: Any) -> list[dict[str, Any]]:
    """Every setting, the cheap ones first."""
    found = []
    for model in options.models.split(","):
        for partition in PARTITIONS:
            for data in options.data.split(","):
                for participants in SIZES[model, data]:
                    found.append(
                        {
                            "data": data,
                            "model": model,
                            "partition": partition,
                            "participants": participants,
                            "group_size": GROUP,
                            "rounds": ROUNDS[model],
                            "learning_rate": 0.1,
                        }
                    )
    return found


def main() -> None:
    """Trains, prints the table, writes the JSON and the plot."""
    parser = measure.arguments(__doc__)
    parser.add_argument("--protocols", default=PROTOCOLS)
    parser.add_argument("--models", default="mlp,cnn")
    parser.add_argument("--data", default="mnist,fashion-mnist")
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    cores = measure.pin(options.cores)
    todo = settings(options)
    if options.tiny:
        options.protocols = "ssddl,dssgd:0.1"
        todo = [{**todo[0], "data": "mnist-small", "model": "linear", "rounds": 1}]
        todo[0] |= {"participants": 30, "group_size": 3}
    cells: list[dict[str, Any]] = []
    if options.out and Path(options.out).exists():
        cells = json.loads(options.out.read_text(encoding="utf-8"))["cells"]
    names = ("protocol", "data", "model", "partition", "participants")
    done = {tuple(made[name] for name in names) for made in cells}
    for fields in todo:
        for protocol in options.protocols.split(","):
            key = (protocol, *(fields[name] for name in names[1:]))
            if key in done:
                continue
            cells.append(cell(protocol, options.seeds, fields))
            print(*key, f"{cells[-1]['accuracy']:.4f}", f"{cells[-1]['seconds']:.0f} s", flush=True)
            found = {"group_size": GROUP, "rounds": ROUNDS, "seeds": options.seeds}
            measure.record(options.out, cores, {**found, "cells": cells})
    print(table(cells))
    if options.out:
        draw(cells, options.out.with_suffix(".png"))


def draw(cells: list[dict[str, Any]], path: Path) -> None:
    """Plots accuracy against N, one panel per partition: mlp on MNIST, where N varies."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(12, 4.8), layout="constrained")
    for axis, partition in zip(axes, PARTITIONS, strict=True):
        here = {"model": "mlp", "data": "mnist", "partition": partition}
        lines = [made for made in cells if here.items() <= made.items()]
        for i, protocol in enumerate(dict.fromkeys(made["protocol"] for made in lines)):
            line = sorted(
                (c for c in lines if c["protocol"] == protocol), key=lambda c: c["participants"]
            )
            side = 1 + 0.012 * (i - 4)  # shifts the error bars, so that they do not overlap
            axis.errorbar(
                [c["participants"] * side for c in line],
                [c["accuracy"] for c in line],
                [c["half_width_95"] or 0 for c in line],
                marker="o",
                markersize=4,
                capsize=2,
                linewidth=1,
                label=protocol,
            )
        axis.set(
            xscale="log", xlabel="participants N, ten per round", title=f"mlp, mnist, {partition}"
        )
        axis.set_xticks(SIZES["mlp", "mnist"], [str(n) for n in SIZES["mlp", "mnist"]])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("test accuracy; bars: 95 % over seeds")
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def table(cells: list[dict[str, Any]]) -> str:
    """Rows are settings, columns protocols."""
    protocols = list(dict.fromkeys(made["protocol"] for made in cells))
    rows: dict[tuple[Any, ...], dict[str, str]] = {}
    for made in cells:
        key = (made["model"], made["data"], made["partition"], made["participants"])
        half = made["half_width_95"]
        text = f"{made['accuracy']:.4f}" + ("" if half is None else f" +- {half:.3f}")
        rows.setdefault(key, {})[made["protocol"]] = text
    lines = [[*map(str, key), *(row.get(p, "") for p in protocols)] for key, row in rows.items()]
    return measure.table(["model", "data", "partition", "N", *protocols], lines)


if __name__ == "__main__":
    main()
