"""How do bytes grow with participants and with parameters, for SSDDL and its rivals?

Bytes are counted, not measured: they are what a run counts (and `ssddl plan` reports) for one
member in a round in which everybody takes part. Keys are counted separately, over their lifetime
and per round; SecAgg's keys live for one round and are part of its bytes. Of a model only its
number of parameters d matters.
"""

from dataclasses import replace
from typing import Any

import measure

ROWS = (
    "plain,ssddl,ssddl:shamir,secagg,secagg+,dssgd:1,dssgd:0.1,dssgd:0.01,phong-lwe,"
    "phong-paillier,snt"
)
SIZES = (10, 30, 100, 300, 1000, 10_000, 100_000, 1_000_000)
ROUNDS = 40  # over which the bytes of keys that are agreed once are spread
DIMENSIONS = (7_850, 50_890, 109_386, 1_000_000, 10_000_000)


def moved(protocol: str, participants: int, dimension: int) -> dict[str, Any]:
    """Bytes of one member in one round."""
    import jax.numpy as jnp
    import numpy as np

    import ssddl_jax as sd
    from ssddl_jax.core.devices import make_mesh
    from ssddl_jax.measure.compare.rows import read_rows
    from ssddl_jax.planning.forecast import forecast
    from ssddl_jax.planning.key_agreement import key_agreement
    from ssddl_jax.planning.plan import make_plan

    config = sd.Config(
        participants=participants, group_size="all", partition="resample:1", rounds=1
    )
    row = replace(read_rows(protocol, config)[0].config, engine="pairwise")
    model = sd.Model(
        lambda key, x: jnp.zeros(dimension, jnp.float32), lambda params, x: x, "synthetic"
    )
    plan = make_plan(row, model, (10,), np.ones(participants, np.int32), make_mesh(1))
    predicted = forecast(row, plan)
    keys = key_agreement(row, dimension, plan.neighbours, ROUNDS)
    return {
        "protocol": protocol,
        "participants": participants,
        "dimension": dimension,
        "up": predicted.up / participants,
        "down": predicted.down / participants,
        "keys": keys.up + keys.down,
        "keys_counted": keys.counted,
        "keys_a_round": keys.a_round(participants, participants),
        "over_plain": (predicted.up + predicted.down) / participants / (8 * dimension),
    }


def draw(cells: list[dict[str, Any]], base: tuple[int, int], path: Any) -> None:
    """Plots two panels: against N at one d, and against d at one N."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(12, 4.6), layout="constrained", sharey=True)
    panels = [("participants", "dimension", base[1]), ("dimension", "participants", base[0])]
    for axis, (along, fixed, at) in zip(axes, panels, strict=True):
        for protocol in dict.fromkeys(made["protocol"] for made in cells):
            line = [c for c in cells if c["protocol"] == protocol and c[fixed] == at]
            line.sort(key=lambda c: c[along])
            ys = [(c["up"] + c["down"]) / 1e6 for c in line]
            axis.loglog([c[along] for c in line], ys, marker="o", markersize=3, label=protocol)
        axis.set(xlabel=along, title=f"{fixed} = {at:,}")
        axis.grid(alpha=0.3, which="both")
    axes[0].set_ylabel("MB per member and round, up and down")
    axes[1].legend(fontsize=8, loc="upper left")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main() -> None:
    """Counts, prints the table, writes the JSON and the plot."""
    parser = measure.arguments(__doc__, cores=False)
    options = parser.parse_args()
    sizes, dimensions, base = SIZES, DIMENSIONS, (100, 109_386)
    if options.tiny:
        sizes, dimensions, base = (10, 30), (100, 1000), (10, 1000)
    settings = dict.fromkeys([*((n, base[1]) for n in sizes), *((base[0], d) for d in dimensions)])
    cells = [moved(row, n, d) for n, d in settings for row in ROWS.split(",")]
    lines = [
        [c["protocol"], c["participants"], c["dimension"], c["up"] / 1e3, c["down"] / 1e3,
         c["keys"] / 1e3, c["keys_a_round"] / 1e3, c["over_plain"]] for c in cells
    ]  # fmt: skip
    head = ["protocol", "N", "d", "kB up", "kB down", "keys kB", "keys kB per round", "x plain"]
    print(measure.table(head, lines))
    measure.record(options.out, 1, {"cells": cells})
    if options.out:
        draw(cells, base, options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
