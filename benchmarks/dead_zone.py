"""What do too few fraction bits cost: coordinates below half a step, which nearest makes zero?

With N members of clip 1 the ring leaves about 31 - log2(N) fraction bits f. Four parts:

- updates: members' updates at several stages of training: the share of nonzero coordinates that
  nearest makes zero, and the relative error of the mean, for every f (NumPy);
- rounds: whole rounds of N members, from a trained model: the relative error of the mean against
  the ring of 64 bits;
- training: accuracy with the f of larger groups, set by hand (the same dead zone, fewer members);
- cost: CPU seconds of a round with stochastic rounding over those with nearest, in turns.

Members take one step on 20 examples, learning rate 0.1 unless a curve says 0.01. What `--out` holds
is not repeated.
"""

import json
from functools import cache, cached_property
from time import perf_counter
from typing import Any

import numpy as np

import measure

STAGES = (0, 40, 160)  # rounds of training before the updates
BITS = tuple(range(8, 25))
MODELS = ("mlp-64", "linear")
CASES = (("linear", 10_000, 160), ("linear", 100_000, 160), ("linear", 1_000_000, 160))  # N, stage
KINDS: dict[str, dict[str, Any]] = {
    "ring 64": {"ring_bits": 64},
    "nearest": {"rounding": "nearest"},
    "stochastic": {"rounding": "stochastic"},
    "nearest, clip 1/16": {"rounding": "nearest", "clip": 0.0625},
    "nearest, f = 11": {"rounding": "nearest", "fraction_bits": 11},
    "stochastic, f = 11": {"rounding": "stochastic", "fraction_bits": 11},
}
BY_HAND = 10_000  # members up to which the last three kinds are run
SLOW = {"learning_rate": 0.01}
CURVES: dict[str, dict[str, Any]] = {
    "linear, ring 64, f = 24": {"ring_bits": 64},
    "linear, nearest, f = 17": {"rounding": "nearest", "fraction_bits": 17},
    "linear, nearest, f = 14": {"rounding": "nearest", "fraction_bits": 14},
    "linear, nearest, f = 11": KINDS["nearest, f = 11"],
    "linear, stochastic, f = 11": KINDS["stochastic, f = 11"],
    "linear, nearest, f = 15, clip 1/16": KINDS["nearest, clip 1/16"] | {"fraction_bits": 15},
    "linear, ring 64, f = 24, rate 0.01": {"ring_bits": 64, **SLOW},
    "linear, nearest, f = 11, rate 0.01": KINDS["nearest, f = 11"] | SLOW,
    "linear, stochastic, f = 11, rate 0.01": KINDS["stochastic, f = 11"] | SLOW,
    "mlp-64, nearest, f = 17": {"rounding": "nearest", "fraction_bits": 17},
    "mlp-64, nearest, f = 11": KINDS["nearest, f = 11"],
}
ONE_STEP = {"partition": "resample:20", "batch_size": 20, "group_size": "all", "engine": "ideal"}


def config_of(model: str, members: int, **fields: Any) -> Any:
    """A config in which everybody takes one step."""
    import ssddl_jax as sd

    return sd.Config(**{**ONE_STEP, "model": model, "participants": members, **fields})


class Round:
    """A compiled round."""

    def __init__(self, config: Any) -> None:
        from ssddl_jax.data.loading import load_data
        from ssddl_jax.simulation.build import build_simulation, compile_step, place

        data = load_data(config)
        self.simulation = build_simulation(config, None, data)
        self.data = place(data, self.simulation.recipe)
        self.state = self.placed(self.simulation.init())
        self.compile = compile_step

    @cached_property
    def call(self) -> Any:
        """The compiled round."""
        return self.compile(self.simulation, self.state, self.data).call

    def placed(self, state: Any) -> Any:
        """A copy of a state on the devices."""
        import jax

        from ssddl_jax.simulation.build import place

        return place(jax.tree.map(np.array, state), self.simulation.recipe)

    def step(self) -> Any:
        """One more round; returns its info."""
        import jax

        self.state, info = jax.block_until_ready(self.call(self.state, self.data))
        return info

    def mean(self, info: Any) -> np.ndarray:
        """The round's decoded mean, f64 [d]."""
        encoding = self.simulation.plan.encoding
        words = np.asarray(info.aggregate)
        if encoding.ring_bits == 32:
            values = words.view(np.int32).astype(np.float64)
        else:
            low, high = np.split(words.astype(np.uint64), 2)
            values = (low | high << np.uint64(32)).view(np.int64).astype(np.float64)
        return values[:-1] / 2.0**encoding.fraction_bits / values[-1]


@cache
def trained(model: str, rounds: int) -> Any:
    """The parameters after rounds of training without any encoding, 500 members each."""
    import jax

    here = Round(config_of(model, 500, protocol="plain"))
    for _ in range(rounds):
        here.step()
    return jax.tree.map(np.array, here.state.params)


def updates(model: str, stage: int, members: int) -> dict[str, Any]:
    """Zeroed coordinates, and the errors of the mean, by fraction bits."""
    import jax

    params = trained(model, stage)
    here = Round(config_of(model, members))
    recipe, state, tile = here.simulation.recipe, here.state, here.simulation.plan.tile_size
    train = jax.jit(recipe.train)
    exact: Any = 0.0
    sums: dict[int, Any] = dict.fromkeys(BITS, 0.0)
    zeroed, spread = dict.fromkeys(BITS, 0), dict.fromkeys(BITS, 0.0)
    nonzero, largest = 0, 0.0
    for first in range(0, members, tile):
        ids = np.arange(first, first + tile, dtype=np.int32)
        pieces, _ = train(params, here.data, state.public, state.round, ids)
        rows = np.concatenate([np.asarray(p).reshape(tile, -1) for p in pieces], axis=1)
        largest = max(largest, float(np.abs(rows).max()))
        nonzero += int(np.count_nonzero(rows))
        exact = exact + rows.sum(axis=0, dtype=np.float64)
        for bits in BITS:
            scaled = rows * np.float32(2**bits)
            near = np.rint(scaled)
            sums[bits] = sums[bits] + near.sum(axis=0, dtype=np.float64) / 2.0**bits
            zeroed[bits] += int(np.sum((near == 0) & (rows != 0)))
            part = scaled - np.floor(scaled)
            spread[bits] += float(np.sum(part * (1 - part), dtype=np.float64)) / 4.0**bits
    norm = float(np.linalg.norm(exact))
    return {
        "model": model,
        "stage": stage,
        "members": members,
        "nonzero": nonzero / (members * len(exact)),
        "largest": largest,
        "by_fraction_bits": [
            {
                "fraction_bits": bits,
                "zeroed": zeroed[bits] / nonzero,
                "nearest": float(np.linalg.norm(sums[bits] - exact)) / norm,
                # computed, of the largest N that has f at clip 1
                "stochastic": (spread[bits] / members / (2**31 >> bits)) ** 0.5 / (norm / members),
            }
            for bits in BITS
        ],
    }


def whole_rounds(model: str, members: int, stage: int, kinds: list[str]) -> dict[str, Any]:
    """The error of the mean in one real round, by kind of rounding."""
    made: dict[str, Any] = {"model": model, "members": members, "stage": stage}
    exact: Any = None
    for kind in kinds[: 6 if members <= BY_HAND else 3]:
        here = Round(config_of(model, members, **KINDS[kind]))
        here.state = here.placed(here.state._replace(params=trained(model, stage)))
        info = here.step()
        mean = here.mean(info)
        assert bool(info.exact), kind
        exact = mean if exact is None else exact
        made[kind] = {
            "fraction_bits": here.simulation.plan.encoding.fraction_bits,
            "error": float(np.linalg.norm(mean - exact) / np.linalg.norm(exact)),
            "zero_in_the_mean": float(np.mean(mean[exact != 0] == 0)),
            "clipped": float(np.asarray(info.clipped, np.float64).sum() / (members * len(mean))),
        }
    return made


def training(kind: str, members: int, rounds: int, seeds: int) -> dict[str, Any]:
    """Accuracy by round, the mean over seeds."""
    import ssddl_jax as sd

    config = config_of(kind.split(",")[0], members, rounds=rounds, **CURVES[kind])
    found = sd.run_seeds(config, list(range(seeds)))
    assert found.exact.all()
    return {
        "kind": kind,
        "members": members,
        "accuracy": [float(a) for a in found.accuracy.mean(axis=0)],
        "of_each_seed": [float(a) for a in found.accuracy[:, -1]],
    }


def cost(engine: str, model: str, members: int) -> dict[str, Any]:
    """CPU seconds of a round on one device by rounding, in turns."""
    fields = {"engine": engine, "shares": "paired", "devices": 1}
    rounds = {
        rounding: Round(config_of(model, members, rounding=rounding, **fields))
        for rounding in ("nearest", "stochastic")
    }
    seconds = measure.in_turns({name: r.step for name, r in rounds.items()}, turns=5, cores=1)
    medians = {name: measure.median(times) for name, times in seconds.items()}
    ratio = medians["stochastic"] / medians["nearest"]
    return {"engine": engine, "model": model, "members": members, **medians, "ratio": ratio}


def main() -> None:
    """Measures what is missing, prints it, writes the JSON and the plot."""
    parser = measure.arguments(__doc__)
    parser.add_argument("--members", type=int, default=2000, help="in training [2000]")
    parser.add_argument("--rounds", type=int, default=40, help="of training [40]")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", help="run only pieces whose names contain this")
    options = parser.parse_args()
    cores = measure.pin(options.cores)
    stages, models, cases, curves, kinds = STAGES, MODELS, CASES, list(CURVES), list(KINDS)
    sample = 128  # members' updates
    costs = [("ideal", "mlp-64", 2000), ("pairwise", "mlp-64", 200)]
    if options.tiny:
        stages, models, cases = (0,), ("linear",), (("linear", 40, 0),)
        curves, kinds, sample = curves[3:4], kinds[:2], 8
        costs, options.members = [("ideal", "linear", 8)], 12
        options.rounds, options.seeds = 2, 1
    jobs: dict[str, Any] = {}
    for stage in stages:
        for name in models:
            jobs[f"updates: {name}, {stage}"] = lambda m=name, s=stage: updates(m, s, sample)
    for case in cases:
        jobs[f"rounds: {', '.join(map(str, case))}"] = lambda c=case: whole_rounds(*c, kinds)
    repeats = options.members, options.rounds, options.seeds
    for kind in curves:
        jobs[f"training: {kind}"] = lambda k=kind: training(k, *repeats)
    for each in costs:
        jobs[f"cost: {', '.join(map(str, each))}"] = lambda e=each: cost(*e)
    done: dict[str, Any] = {}
    if options.out and options.out.exists():
        done = json.loads(options.out.read_text(encoding="utf-8"))["pieces"]
    for name, job in jobs.items():
        if name in done or (options.only and options.only not in name):
            continue
        begin = perf_counter()
        done[name] = measure.rounded(job())
        print(name, f"{perf_counter() - begin:.0f} s", json.dumps(done[name]), flush=True)
        measure.record(options.out, cores, {"pieces": done})
    measure.record(options.out, cores, {"pieces": done})
    if options.out and not options.tiny:
        draw(done, options.out.with_suffix(".png"))


def part(done: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The results of one part."""
    return [made for key, made in done.items() if key.startswith(name)]


def draw(done: dict[str, Any], path: Any) -> None:
    """Plots the errors of the mean by fraction bits, and accuracy by round."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(13, 4.6), layout="constrained")
    for i, made in enumerate(u for u in part(done, "updates") if u["model"] == "mlp-64"):
        bits = [b["fraction_bits"] for b in made["by_fraction_bits"]]
        for kind, style in (("nearest", "-"), ("stochastic", ":")):
            errors = [b[kind] for b in made["by_fraction_bits"]]
            label = f"{kind}, after {made['stage']} rounds"
            axes[0].plot(bits, errors, style, color=f"C{i}", marker=".", label=label)
    axes[0].set(yscale="log", xlabel="fraction bits f (11: a million members, 24: up to 127)")
    axes[0].set_ylabel("relative error of the mean update")
    for made in part(done, "training"):
        axes[1].plot(range(1, len(made["accuracy"]) + 1), made["accuracy"], label=made["kind"])
    axes[1].set(xlabel="round", ylabel="test accuracy")
    for axis in axes:
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    axes[1].legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
