"""How near is a round to the time of its multiplications alone?

The floor is 6 E d n flops at the rate of XLA's own sgemm, measured in the same run. Beside it: one
round of protocol plain over n participants of E examples in one step, with the code of `run`;
that round at other tile sizes, to choose `tile_size auto`; and engine ideal over plain.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import measure

SIDE = 1024  # of the square matrices whose product gives the sgemm rate


class Prepared(NamedTuple):
    """A compiled round, to be called again and again."""

    call: Callable[[], object]
    compile_seconds: float
    parameters: int


def prepare(participants: int, examples: int, pool: int, **fields: Any) -> Prepared:
    """Compiles one round in which everybody takes part with one batch of all its examples.

    Images are a pool of MNIST-shaped uint8 arrays; participants are rows computed from their ids.
    """
    import jax

    from ssddl_jax import Config, build_simulation
    from ssddl_jax.compiling import compile_once, named
    from ssddl_jax.population import Data
    from ssddl_jax.simulation import place

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (pool, 28, 28), np.uint8)
    labels = rng.integers(0, 10, pool, np.int32)
    data = Data(
        images=images,
        labels=labels,
        rows=np.zeros((0, examples), np.int32),
        counts=np.full(participants, examples, np.int32),
        test_images=images[:10],
        test_labels=np.arange(10, dtype=np.int32),
    )
    config = Config(
        participants=participants,
        group_size="all",
        partition=f"resample:{examples}",
        batch_size=examples,
        **fields,
    )
    simulation = build_simulation(config, None, data)
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


def rate_of(seconds: float) -> float:
    """Flops per second of a product that took so long."""
    return 2 * SIDE**3 / seconds


def over_floor(seconds: list[float], products: list[float], flops: float) -> dict[str, float]:
    """Best and median seconds, and both over the floor at the sgemm rate of the same turns."""
    took, product = measure.best_and_median(seconds), measure.best_and_median(products)
    return {
        **took,
        "over_floor": took["best"] / (flops / rate_of(product["best"])),
        "over_floor_median": took["median"] / (flops / rate_of(product["median"])),
    }


def engines(
    participants: int, examples: int, pool: int, turns: int, devices: int, cores: int
) -> Any:
    """Plain over its floor, and engine ideal over plain."""
    kept = {
        "plain": {"protocol": "plain"},
        "ideal chacha20": {"engine": "ideal", "prg": "chacha20"},
        "ideal chacha8": {"engine": "ideal", "prg": "chacha8"},
    }
    rounds = {
        name: prepare(participants, examples, pool, model="mlp-64", devices=devices, **fields)
        for name, fields in kept.items()
    }
    calls = {"sgemm": sgemm(), **{name: made.call for name, made in rounds.items()}}
    seconds = measure.in_turns(calls, turns, cores)
    flops = 6 * examples * rounds["plain"].parameters * participants
    result = {
        name: over_floor(seconds[name], seconds["sgemm"], flops)
        | {"compile_seconds": rounds[name].compile_seconds}
        for name in rounds
    }
    plain = result["plain"]
    for name in rounds:
        result[name] |= {
            "over_plain": result[name]["best"] / plain["best"],
            "over_plain_median": result[name]["median"] / plain["median"],
        }
    rate = rate_of(min(seconds["sgemm"]))
    print(f"\nmlp-64, {participants} participants, {devices} device(s); sgemm {rate:.3g} flops/s")
    columns = ["best", "median", "over_floor", "over_floor_median", "over_plain", "compile_seconds"]
    rows = [[name, *(result[name][key] for key in columns)] for name in rounds]
    print(measure.table(["round", *columns], rows))
    return {"sgemm_flops_per_second": rate, "rounds": result}


def tile_sizes(
    model: str, tiles: list[int], participants: int, examples: int, turns: int, devices: int
) -> Any:
    """One plain round at each tile size."""
    rounds = {
        tile: prepare(
            participants,
            examples,
            2000,
            model=model,
            protocol="plain",
            tile_size=tile,
            devices=devices,
        )
        for tile in tiles
    }
    calls = {"sgemm": sgemm(), **{str(tile): made.call for tile, made in rounds.items()}}
    seconds = measure.in_turns(calls, turns, devices)
    flops = 6 * examples * rounds[tiles[0]].parameters * participants
    result = {
        str(tile): over_floor(seconds[str(tile)], seconds["sgemm"], flops)
        | {"compile_seconds": rounds[tile].compile_seconds}
        for tile in tiles
    }
    if model == "cnn":  # weights are used many times a pass: 6 E d is not its flops
        for row in result.values():
            del row["over_floor"], row["over_floor_median"]
    fastest = min(result, key=lambda tile: result[tile]["best"])
    each = {tile: 1e6 * row["best"] / participants for tile, row in result.items()}
    print(f"\n{model}, {participants} participants, {devices} device(s): best tile {fastest}")
    rows = [[tile, each[tile], row.get("over_floor", "-")] for tile, row in result.items()]
    print(measure.table(["tile", "us each", "over floor"], rows))
    return {"participants": participants, "fastest": int(fastest), "tiles": result}


def main() -> None:
    """Measures, prints, writes."""
    parser = measure.arguments(__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--models", nargs="*", default=["mlp-64", "mlp", "linear", "cnn"])
    options = parser.parse_args()
    cores = measure.pin(options.cores)
    if options.tiny:
        by_engine = [{"devices": cores, **engines(16, 4, 50, 1, cores, cores)}]
        measure.record(options.out, cores, {"engines": by_engine})
        return
    examples = 20
    by_engine = [
        {"devices": devices, **engines(1000, examples, 2000, options.turns, devices, cores)}
        for devices in sorted({1, cores})
    ]
    tiles = {
        model: tile_sizes(
            model,
            [1, 2, 4, 8] if model == "cnn" else [1, 2, 4, 8, 16, 32, 64],
            16 if model == "cnn" else 960,
            examples,
            options.turns,
            cores,
        )
        for model in options.models
    }
    measure.record(options.out, cores, {"engines": by_engine, "tile_sizes": tiles})


if __name__ == "__main__":
    main()
