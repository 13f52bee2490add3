"""How long does a run take from its start to the result of its first round, without imports?

Every measurement is one `run` in a process of its own, with an empty program cache, timed until a
sink receives the first round; the cases alternate. They are tiny rounds (nine members, a linear
model; pairwise on a ring graph, and ideal) and the default run. `--against SRC` also times another
checkout's `src/`, alternating with this one. A second table has the CPU seconds of each step of
this checkout, one after another: a run compiles its first state and its evaluation beside its
round.
"""

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import measure

TINY = {"model": "linear", "participants": 20, "group_size": 9, "batch_size": 5}
CASES = {
    "ring": {**TINY, "neighbours": 4},
    "ideal": {**TINY, "engine": "ideal"},
    "default": {},
}
STEPS = ("checks", "state", "trace", "lower", "compile", "round", "evaluation")
WANTED = 0.6


class First:
    """A sink that notes when the first round arrives."""

    def __init__(self) -> None:
        self.at: tuple[float, float] | None = None

    def start(self, *_: Any) -> None:
        """Nothing to open."""

    def round(self, row: Any) -> None:
        """Notes the time."""
        self.at = self.at or now()

    def finish(self, summary: Any) -> None:
        """Nothing to add."""

    def close(self) -> None:
        """Nothing to release."""


def now() -> tuple[float, float]:
    """The clock, and the CPU seconds of this process so far, on all cores."""
    spent = os.times()
    return time.perf_counter(), spent.user + spent.system


def parts_of(name: str) -> dict[str, Any]:
    """The data of a tiny round."""
    import numpy as np

    import ssddl_jax as sd

    if name == "default":
        return {}
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (200, 3, 4), dtype=np.uint8)
    return {"data": sd.make_data(images, rng.integers(0, 4, 200), np.arange(200) % 20)}


def whole(name: str, folder: Path) -> dict[str, Any]:
    """Seconds and CPU seconds until the first round, of a run."""
    import flax  # noqa: F401
    import jax  # noqa: F401
    import optax  # noqa: F401

    import ssddl_jax as sd

    parts, run, first = parts_of(name), sd.run, First()  # imported before the clock starts
    config = sd.Config(rounds=1, out=str(folder / "run"), **CASES[name])
    begin = now()
    result = run(config, sinks=[first], **parts)
    assert first.at is not None
    seconds, spent = (end - start for end, start in zip(first.at, begin, strict=True))
    return {"seconds": seconds, "cpu_seconds": spent, "sha256": result.summary["run_sha256"]}


def steps(name: str) -> dict[str, Any]:
    """CPU seconds of each step."""
    import jax

    import ssddl_jax as sd
    from ssddl_jax.running.loop import first_state, prepare
    from ssddl_jax.simulation.build import place
    from ssddl_jax.simulation.compiling import OPTIONS, named
    from ssddl_jax.simulation.evaluate import Evaluation

    parts, ends = parts_of(name), [now()]
    prepared = prepare(sd.Config(rounds=1, **CASES[name]), parts)
    simulation = prepared.simulation
    ends.append(now())
    state = first_state(simulation, None, lambda _, __, make: make())
    data = place(prepared.data, simulation.recipe)
    ends.append(now())
    everywhere = jax.tree.leaves(state)[0].sharding
    step = jax.jit(named(simulation.step), donate_argnums=0, out_shardings=everywhere)
    traced = step.trace(state, data)
    ends.append(now())
    lowered = traced.lower()
    ends.append(now())
    compiled = lowered.compile(compiler_options=OPTIONS["cpu"])
    ends.append(now())
    state, _ = jax.block_until_ready(compiled(state, data))
    ends.append(now())
    Evaluation(simulation)(state, data)
    ends.append(now())
    text = compiled.as_text()
    return {
        "steps": [end[1] - begin[1] for begin, end in itertools.pairwise(ends)],
        "fusions": text.count(" fusion("),
        "lines": text.count("\n"),
    }


def in_a_process(flags: list[str], source: Path, cores: int) -> dict[str, Any]:
    """What another process of this script prints."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {"PYTHONPATH": str(source), "SSDDL_PROGRAM_CACHE": f"{folder}/programs"}
        done = subprocess.run(
            [sys.executable, __file__, *flags, "--folder", folder, "--cores", str(cores)],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            encoding="utf-8",
            check=True,
        )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measures, prints the tables, writes the JSON."""
    parser = measure.arguments(__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--against", type=Path, help="also time the src/ of another checkout")
    parser.add_argument("--case", choices=CASES, help="run only this case")
    parser.add_argument("--whole", help="for internal use")
    parser.add_argument("--steps", help="for internal use")
    parser.add_argument("--folder", type=Path, help="for internal use")
    options = parser.parse_args()
    cores = measure.pin(options.cores)
    if options.whole or options.steps:
        folder = options.folder
        found = whole(options.whole, folder) if options.whole else steps(options.steps)
        print(json.dumps(found))
        return
    here = Path(__file__).resolve().parents[1] / "src"
    sources = {"now": here, **({"before": options.against.resolve()} if options.against else {})}
    cases = [options.case] if options.case else ["ring"] if options.tiny else list(CASES)
    turns = range(1 if options.tiny else options.turns)
    runs: dict[tuple[str, str], list[dict]] = {(c, when): [] for c in cases for when in sources}
    for _, case, when in itertools.product(turns, cases, sources):
        runs[case, when].append(in_a_process(["--whole", case], sources[when], cores))
    took = {
        key: {
            name: measure.median([run[name] for run in of]) for name in ("seconds", "cpu_seconds")
        }
        for key, of in runs.items()
    }
    rows, results = [], {}
    for (case, when), of in took.items():
        before = took.get((case, "before"), of)
        ratios = {f"{name}_of_before": of[name] / before[name] for name in of}
        hashes = sorted({run["sha256"] for run in runs[case, when]})
        results[f"{case}, {when}"] = of | ratios | {"sha256": hashes}
        rows.append([case, when, *of.values(), *ratios.values()])
    head = ["case", "when", "s", "CPU s", f"of before, wanted {WANTED}", "by CPU s"]
    print(measure.table(head, rows))
    rows = []
    for case in cases:
        found = [in_a_process(["--steps", case], here, cores) for _ in turns]
        medians = [measure.median([run["steps"][i] for run in found]) for i in range(len(STEPS))]
        size = {name: found[0][name] for name in ("fusions", "lines")}
        results[f"{case}, now"] |= {"steps": dict(zip(STEPS, medians, strict=True)), **size}
        rows.append([case, *medians, *size.values()])
    print(measure.table(["CPU seconds", *STEPS, "fusions", "lines"], rows))
    measure.record(options.out, cores, {"turns": len(turns), "first_round": results})


if __name__ == "__main__":
    main()
