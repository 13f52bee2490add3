"""How close is a round to the time of its multiplications alone, and what does privacy add?

The floor is 6 d flops per example and step, at the rate of XLA's sgemm, measured in the same run.
It is compared with whole rounds of `ssddl bench round` for protocol plain and engine ideal, with
one local step and with five, for models of 7,850 to 109,386 parameters. Protocol plain is also
timed with other tile sizes, to choose `tile_size auto`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import measure

SIDE = 1024  # of the square matrices whose product gives the sgemm rate
EXAMPLES = 20
ENGINES = {
    "plain": {"protocol": "plain"},
    "ideal chacha20": {"engine": "ideal", "prg": "chacha20"},
    "ideal chacha8": {"engine": "ideal", "prg": "chacha8"},
}


class Prepared(NamedTuple):
    """A compiled round that can be called repeatedly."""

    call: Callable[[], object]
    compile_seconds: float
    parameters: int


def prepare(participants: int, examples: int, steps: int, **fields: Any) -> Prepared:
    """Compiles one round of `ssddl bench round`."""
    import jax

    from ssddl_jax import Config
    from ssddl_jax.measure.bench import RoundBench, round_simulation
    from ssddl_jax.simulation.build import place
    from ssddl_jax.simulation.compiling import compile_once, named

    config = Config(participants=participants, group_size="all", **fields)
    bench = RoundBench(participants, examples, steps, examples)
    simulation, data = round_simulation(config, bench)
    placed = place(data, simulation.recipe)
    state = place(simulation.init(), simulation.recipe)
    compiled = compile_once(named(simulation.step), state, placed, donate=False)
    return Prepared(
        lambda: jax.block_until_ready(compiled.call(state, placed)),
        compiled.seconds,
        simulation.plan.dimension,
    )


def sgemm() -> Callable[[], object]:
    """One product of two SIDE x SIDE matrices, on XLA's own threads."""
    import jax
    import jax.numpy as jnp

    a = jnp.asarray(np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32))
    product = jax.jit(jnp.dot)
    return lambda: jax.block_until_ready(product(a, a))


def over_floor(seconds: list[float], products: list[float], flops: float) -> dict[str, float]:
    """Best and median seconds, and both relative to the floor at the measured sgemm rate."""
    took, product = measure.best_and_median(seconds), measure.best_and_median(products)
    floor = {key: flops * product[key] / (2 * SIDE**3) for key in product}
    return {
        **took,
        "over_floor": took["best"] / floor["best"],
        "over_floor_median": took["median"] / floor["median"],
    }


def engines(
    model: str, steps: int, participants: int, examples: int, turns: int, cores: int
) -> dict[str, Any]:
    """Protocol plain relative to its floor, and engine ideal relative to plain."""
    rounds = {
        name: prepare(participants, examples, steps, model=model, devices=cores, **fields)
        for name, fields in ENGINES.items()
    }
    calls = {"sgemm": sgemm(), **{name: made.call for name, made in rounds.items()}}
    seconds = measure.in_turns(calls, turns, cores)
    flops = 6 * examples * steps * rounds["plain"].parameters * participants
    result = {
        name: over_floor(seconds[name], seconds["sgemm"], flops)
        | {"compile_seconds": rounds[name].compile_seconds}
        for name in rounds
    }
    for row in result.values():
        for key in ("best", "median"):
            row[f"over_plain_{key}"] = row[key] / result["plain"][key]
        if model == "cnn":  # a pass uses each weight many times: its flops are not 6 d
            del row["over_floor"], row["over_floor_median"]
    rate = 2 * SIDE**3 / measure.median(seconds["sgemm"])
    print(f"\n{model}, {participants} participants, {steps} local step(s), {cores} device(s)")
    columns = ["best", "median", "over_floor", "over_floor_median"]
    columns += ["over_plain_best", "over_plain_median"]
    rows = [[name, *(row.get(key, "-") for key in columns)] for name, row in result.items()]
    print(measure.table(["round", *columns], rows), flush=True)
    return {
        "model": model,
        "local_steps": steps,
        "participants": participants,
        "sgemm_flops_per_second": rate,
        "rounds": result,
    }


def tile_sizes(
    model: str, tiles: list[int], participants: int, examples: int, turns: int, cores: int
) -> dict[str, Any]:
    """One round of protocol plain at each tile size."""
    fields = {"model": model, "protocol": "plain", "devices": cores}
    rounds = {tile: prepare(participants, examples, 1, tile_size=tile, **fields) for tile in tiles}
    calls = {str(tile): made.call for tile, made in rounds.items()}
    seconds = measure.in_turns(calls, turns, cores)
    each = {
        tile: {key: 1e6 * value / participants for key, value in took.items()}
        for tile, took in ((t, measure.best_and_median(s)) for t, s in seconds.items())
    }
    fastest = min(each, key=lambda tile: each[tile]["best"])
    print(f"\n{model}, {participants} participants, {cores} device(s): best tile {fastest}")
    rows = [[tile, *row.values()] for tile, row in each.items()]
    print(
        measure.table(["tile", "best, us per participant", "median, us per participant"], rows),
        flush=True,
    )
    return {"model": model, "participants": participants, "us_each": each}


def main() -> None:
    """Measures, prints the table, writes the JSON."""
    parser = measure.arguments(__doc__)
    parser.add_argument("--turns", type=int, default=9)
    options = parser.parse_args()
    cores = measure.pin(options.cores)
    if options.tiny:
        results = {"engines": [engines("mlp-64", 1, 16, 4, 1, cores)]}
        measure.record(options.out, cores, results)
        return
    many = {"mlp-64": (1, 5), "linear": (1, 5), "mlp": (1, 5), "cnn": (1,)}
    by_engine = [
        engines(model, steps, 64 if model == "cnn" else 1000, EXAMPLES, options.turns, cores)
        for model, all_steps in many.items()
        for steps in all_steps
    ]
    tiles = [
        tile_sizes(
            model,
            [1, 2, 4, 8] if model == "cnn" else [1, 2, 4, 8, 16, 32],
            16 if model == "cnn" else 960,
            EXAMPLES,
            options.turns,
            cores,
        )
        for model in many
    ]
    measure.record(options.out, cores, {"engines": by_engine, "tile_sizes": tiles})


if __name__ == "__main__":
    main()
