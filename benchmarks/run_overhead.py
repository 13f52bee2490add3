"""What do logging, hashing, checkpoints and progress cost a run of 200 rounds?

Times the default run of `ssddl_jax.run`, with its progress and its run directory, and the same
compiled rounds with their evaluations and nothing else, alternating in one process. Seconds are
those from the end of the first round to the end of the last.
"""

import tempfile
import time
from pathlib import Path

import measure

WANTED = 0.05
ROUNDS = 200


def main() -> None:
    """Measures, prints the table, writes the JSON."""
    parser = measure.arguments(__doc__)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    cores = measure.pin(options.cores)

    import jax

    import ssddl_jax as sd
    from ssddl_jax.cli.console import Progress
    from ssddl_jax.running.loop import begin, prepare

    tiny = {"participants": 6, "group_size": 3, "model": "linear"} if options.tiny else {}
    config = sd.Config(rounds=12 if options.tiny else ROUNDS, **tiny)

    def bare() -> float:
        prepared = prepare(config, {})
        state, loop = begin(prepared)
        ends = []
        for _ in range(config.rounds):
            state, _ = jax.block_until_ready(loop.step.call(state, loop.data))
            loop.evaluate(state, loop.data)
            ends.append(time.perf_counter())
        return ends[-1] - ends[0]

    def whole(folder: Path) -> float:
        ends = []

        def ended(row: dict[str, object]) -> None:
            progress.round(row)
            ends.append(time.perf_counter())

        with Progress(config) as progress:
            out = config.__class__(**{**vars(config), "out": str(folder)})
            sd.run(out, overwrite=True, watch=progress.watch._replace(round=ended))
        return ends[-1] - ends[0]

    seconds: dict[str, list[float]] = {"rounds alone": [], "run": []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(1 if options.tiny else options.turns):
            seconds["rounds alone"].append(bare())
            seconds["run"].append(whole(Path(folder) / "run"))
    medians = {name: measure.median(kept) for name, kept in seconds.items()}
    overhead = medians["run"] / medians["rounds alone"] - 1
    rows = [[name, value, min(seconds[name])] for name, value in medians.items()]
    print(measure.table(["what", "seconds (median)", "best"], rows))
    print(f"overhead {overhead:.3f} of the rounds alone; the target is at most {WANTED}")
    found = {"rounds": config.rounds, "seconds": seconds, "overhead": overhead}
    measure.record(options.out, cores, found)


if __name__ == "__main__":
    main()
