"""How close are the predictions of `ssddl plan` to the measurements of `ssddl run`?

For each setting, alternating, `plan` predicts seconds per round, memory and bytes, and `run`
measures and counts them. Bytes must be equal. The targets are a factor of 2 for seconds and of 1.5
for memory.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import measure

COMMAND = [sys.executable, "-m", "ssddl_jax"]
MANY = "--partition resample:20"
SETTINGS = {
    "default": "",
    "cnn": "--model cnn",
    "group 100, complete": "--group-size 100",
    "group 200 of 300, complete": f"--participants 300 --group-size 200 {MANY}",
    "group 1,000, auto": f"--participants 2000 --group-size 1000 --neighbours auto {MANY}",
    "ideal, 5,000": f"--participants 10000 --group-size 5000 --engine ideal {MANY}",
    "plain": "--protocol plain",
    "plain, 5,000": f"--protocol plain --participants 10000 --group-size 5000 {MANY}",
    "shamir, 15 of 25": "--dropout-rule shamir --threshold 15 --dropout 0.1",
    "shamir, 67 of 100": "--group-size 100 --dropout-rule shamir --threshold 67",
    "reveal, dropout 0.1": "--dropout-rule reveal --dropout 0.1",
    "three local epochs": "--local-epochs 3",
    "batches of 32": "--batch-size 32",
    "linear, group 200": f"--model linear --participants 300 --group-size 200 {MANY}",
    "a million, 25 a round": f"--participants 1000000 {MANY}",
    "ring of 64 bits": "--ring-bits 64",
}
TINY = {"linear, group 5": "--model linear --participants 10 --group-size 5 --tile-size 2"}
SECONDS, MEMORY = 2.0, 1.5


def ssddl(command: str, flags: list[str]) -> dict[str, Any]:
    """Runs one command in its own process; returns its JSON."""
    words = [*COMMAND, command, *flags, "--json"]
    done = subprocess.run(words, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        sys.exit(f"ssddl {command} {' '.join(flags)}: {done.stderr.strip().splitlines()[-1]}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def compare(name: str, flags: list[str], turns: int, rounds: int) -> dict[str, Any]:
    """One row: the predictions, the measurements and their ratios."""
    flags = [*flags, "--rounds", str(rounds), "--eval-every", str(rounds)]
    plans, runs = [], []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(turns):
            plans.append(ssddl("plan", flags))
            runs.append(ssddl("run", [*flags, "--out", str(Path(folder) / str(turn))]))
    for key in ("bytes_up_per_participant", "bytes_down_per_participant", "rounds_void"):
        assert plans[0][key] == runs[0][key], (name, key, plans[0][key], runs[0][key])
    predicted = measure.median([plan["seconds_per_round"] for plan in plans])
    measured = measure.median([run["seconds_per_round_median"] for run in runs])
    memory = measure.median([run["peak_memory_mb"] for run in runs])
    return {
        "setting": name,
        "flags": " ".join(flags),
        "predicted_seconds": predicted,
        "measured_seconds": measured,
        "seconds_ratio": predicted / measured,
        "predicted_mb": plans[0]["memory_mb"],
        "measured_mb": memory,
        "memory_ratio": plans[0]["memory_mb"] / memory,
        "calibration_seconds": measure.median([plan["calibration"]["took"] for plan in plans]),
        "all_predicted_seconds": [plan["seconds_per_round"] for plan in plans],
        "all_measured_seconds": [run["seconds_per_round_median"] for run in runs],
        "bytes_up": runs[0]["bytes_up_per_participant"],
    }


def main() -> None:
    """Measures, prints the table, writes the JSON."""
    parser = measure.arguments(__doc__)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--only", default="", help="run only settings whose names contain this")
    options = parser.parse_args()
    cores = measure.pin(options.cores)
    rows = []
    for name, flags in (TINY if options.tiny else SETTINGS).items():
        if options.only not in name:
            continue
        turns, rounds = (1, 2) if options.tiny else (options.turns, 5)
        rows.append(compare(name, flags.split(), turns, rounds))
        print(f"{name}: {rows[-1]['seconds_ratio']:.2f}", file=sys.stderr, flush=True)
        measure.record(options.out, cores, {"wanted": [SECONDS, MEMORY], "rows": rows})
    head = ["setting", "predicted, s", "measured, s", "ratio", f"within {SECONDS:g}"]
    head += ["predicted, MB", "measured, MB", "ratio", f"within {MEMORY:g}", "calibrating, s"]
    cells = []
    for row in rows:
        near = [
            max(ratio, 1 / ratio) <= wanted
            for ratio, wanted in ((row["seconds_ratio"], SECONDS), (row["memory_ratio"], MEMORY))
        ]
        seconds = [row["predicted_seconds"], row["measured_seconds"], row["seconds_ratio"]]
        memory = [row["predicted_mb"], row["measured_mb"], row["memory_ratio"]]
        cells.append(
            [row["setting"], *seconds, near[0], *memory, near[1], row["calibration_seconds"]]
        )
    print(measure.table(head, cells))


if __name__ == "__main__":
    main()
