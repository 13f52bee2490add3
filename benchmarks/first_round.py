"""How long does a run take from its start to the result of its first round, without imports?

Every measurement has its own process; the cases alternate. They are tiny rounds (nine members, a
linear model; pairwise on a ring graph, and ideal) and the default run. It times the initial state,
tracing, lowering, compiling, the round and the first evaluation. `--against SRC` also times another
checkout's `src/`, alternating with this one. Seconds are CPU seconds over all threads.
"""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import measure

TINY = {"model": "linear", "participants": 20, "group_size": 9, "batch_size": 5}
CASES = {
    "ring": {**TINY, "neighbours": 4},
    "ideal": {**TINY, "engine": "ideal"},
    "default": {},
}
STEPS = ("state", "trace", "lower", "compile", "round", "evaluation")
WANTED = 0.6


def one_process(name: str) -> None:
    """Prints the CPU seconds of each step as JSON."""
    import jax
    import numpy as np

    import ssddl_jax as sd
    from ssddl_jax.running.loop import first_state, prepare
    from ssddl_jax.simulation.build import place
    from ssddl_jax.simulation.compiling import named
    from ssddl_jax.simulation.evaluate import evaluator

    ends = [cpu()]
    parts = {}
    if name != "default":
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (200, 3, 4), dtype=np.uint8)
        parts["data"] = sd.make_data(images, rng.integers(0, 4, 200), np.arange(200) % 20)
    prepared = prepare(sd.Config(rounds=1, **CASES[name]), parts)
    simulation = prepared.simulation
    state = first_state(simulation, None)
    data = place(prepared.data, simulation.recipe)
    ends.append(cpu())
    whole = jax.tree.leaves(state)[0].sharding
    step = jax.jit(named(simulation.step), donate_argnums=0, out_shardings=whole)
    traced = step.trace(state, data)
    ends.append(cpu())
    lowered = traced.lower()
    ends.append(cpu())
    compiled = lowered.compile(compiler_options={"xla_cpu_prefer_vector_width": "512"})
    ends.append(cpu())
    state, _ = jax.block_until_ready(compiled(state, data))
    ends.append(cpu())
    evaluator(simulation)(state, data)
    ends.append(cpu())
    steps = [end - begin for begin, end in itertools.pairwise(ends)]
    text = compiled.as_text()
    fusions = text.count(" fusion(")
    print(json.dumps({"steps": steps, "fusions": fusions, "lines": text.count("\n")}))


def cpu() -> float:
    """CPU seconds of this process so far, on all cores."""
    spent = os.times()
    return spent.user + spent.system


def main() -> None:
    """Measures, prints the table, writes the JSON."""
    parser = measure.arguments(__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--against", type=Path, help="also time the src/ of another checkout")
    parser.add_argument("--case", choices=CASES, help="run only this case")
    parser.add_argument("--one", help="for internal use")
    options = parser.parse_args()
    cores = measure.pin(options.cores)
    if options.one:
        one_process(options.one)
        return
    here = Path(__file__).resolve().parents[1] / "src"
    sources = {"now": here, **({"before": options.against.resolve()} if options.against else {})}
    cases = [options.case] if options.case else ["ring"] if options.tiny else list(CASES)
    kept: dict[tuple[str, str], list[dict]] = {}
    for _ in range(1 if options.tiny else options.turns):
        for case in cases:
            for when, source in sources.items():
                run = subprocess.run(
                    [sys.executable, __file__, "--one", case, "--cores", str(cores)],
                    env={**os.environ, "PYTHONPATH": str(source)},
                    capture_output=True,
                    encoding="utf-8",
                    check=True,
                )
                kept.setdefault((case, when), []).append(json.loads(run.stdout))
    rows, found = [], {}
    for (case, when), runs in kept.items():
        steps = [measure.median([run["steps"][i] for run in runs]) for i in range(len(STEPS))]
        total = measure.median([sum(run["steps"]) for run in runs])
        rows.append([case, when, *steps, total, runs[0]["fusions"], runs[0]["lines"]])
        found[f"{case}, {when}"] = {
            **dict(zip(STEPS, steps, strict=True)),
            "total": total,
            "fusions": runs[0]["fusions"],
            "lines": runs[0]["lines"],
        }
    head = ["case", "when", *STEPS, "total CPU s", "fusions", "lines"]
    print(measure.table(head, rows))
    for case in cases:
        if f"{case}, before" in found:
            ratio = found[f"{case}, now"]["total"] / found[f"{case}, before"]["total"]
            print(f"{case}: {ratio:.2f} of the time before; the target is at most {WANTED}")
    measure.record(options.out, cores, {"turns": options.turns, "cpu_seconds": found})


if __name__ == "__main__":
    main()
