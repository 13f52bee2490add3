"""Does SSDDL train the convolutional net on full MNIST to 0.97 within 60 rounds?

Runs `ssddl run` as a user would; records the summary and the accuracy by round.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import measure

SETTINGS = {
    "participants": 200,
    "group-size": 20,
    "model": "cnn",
    "rounds": 30,
    "learning-rate": 0.2,
    "batch-size": 10,
    "local-epochs": 1,
    "tile-size": 1,
    "eval-every": 2,
}
TINY = {
    "participants": 200,
    "group-size": 3,
    "model": "cnn",
    "rounds": 1,
    "tile-size": 1,
    "prg": "chacha8",
}
WANTED = 0.97


def main() -> None:
    """Runs, prints the accuracy, writes the JSON."""
    parser = measure.arguments(__doc__)
    parser.add_argument("--data", default="mnist", help="dataset, as for `ssddl run` [mnist]")
    options = parser.parse_args()
    cores = measure.pin(options.cores)
    settings = (
        {"data": "mnist-small", **TINY} if options.tiny else {"data": options.data, **SETTINGS}
    )
    flags = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        words = [sys.executable, "-m", "ssddl_jax", "run", *flags, "--json", "--out", str(out)]
        done = subprocess.run(words, stdout=subprocess.PIPE, encoding="utf-8", check=False)
        if done.returncode:
            sys.exit(f"ssddl run ended with exit status {done.returncode}")
        lines = (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    summary = json.loads(done.stdout)
    rows = [json.loads(line) for line in lines]
    accuracy = {row["round"] + 1: row["test_accuracy"] for row in rows if row["test_accuracy"]}
    first = next((round_ for round_, value in accuracy.items() if value >= WANTED), None)
    print(f"accuracy {summary['test_accuracy']}; {WANTED} first reached after round {first}")
    results = {
        "ssddl": " ".join(["ssddl run", *flags]),
        "wanted_accuracy": WANTED,
        "first_round_with_it": first,
        "accuracy_after_round": accuracy,
        "summary": {key: value for key, value in summary.items() if key != "versions"},
    }
    measure.record(options.out, cores, results)


if __name__ == "__main__":
    main()
