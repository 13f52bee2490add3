"""Do fourteen configurations still give the same bits?

They cover every engine, graph, ring, dropout rule and kind of round. Prints the `run_sha256` of
each. With --against FILE it compares them with a recorded file and exits with 1 if one differs. The
bits of training depend on the machine, so the file names its features and versions.
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import measure

OWN = "recorded_model:model"  # benchmarks/recorded_model.py, a custom model
SMALL = {"model": "linear", "participants": 60, "group_size": 12}
CONFIGS = {
    "default": {},
    "ideal": {"engine": "ideal", "model": "mlp-64", "participants": 300, "group_size": "all"}
    | {"partition": "resample:20"},
    "ring, paired, chacha8": {"neighbours": 8, "shares": "paired", "prg": "chacha8"}
    | {"model": "mlp-64", "group_size": 40},
    "wide ring, weighted, stochastic": SMALL
    | {"ring_bits": 64, "weighting": "examples", "partition": "dirichlet:0.5"}
    | {"rounding": "stochastic"},
    "reveal on a ring": SMALL | {"neighbours": 6, "dropout_rule": "reveal", "dropout": 0.1},
    "retry": SMALL | {"dropout": 0.1, "selection": "rotate", "local_epochs": 2},
    "shamir": SMALL | {"dropout_rule": "shamir", "dropout": 0.1, "server_optimizer": "adam"},
    "secagg+": SMALL | {"protocol": "secagg+", "neighbours": 6, "threshold": 3, "dropout": 0.1},
    "cnn": {"model": "cnn", "participants": 12, "group_size": 6, "batch_size": 50},
    "plain": SMALL | {"protocol": "plain", "local_optimizer": "adam", "learning_rate": 0.01},
    "dssgd": SMALL | {"protocol": "dssgd", "partition": "shards:2"},
    "phong-lwe": SMALL | {"protocol": "phong-lwe", "participants": 12, "group_size": 6},
    "reference": SMALL | {"engine": "reference", "neighbours": 4, "shares": "paired"},
    "own model": SMALL | {"model": OWN, "prg": "chacha12", "local_optimizer": "momentum"},
}


def features() -> dict[str, object]:
    """The features of this machine that the bits of training can depend on."""
    flags: set[str] = set()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [
            line
            for line in info.read_text(encoding="utf-8").splitlines()
            if line.startswith("flags")
        ]
        flags = set(lines[0].split(":", 1)[1].split()) if lines else set()
    wide = sorted(f for f in flags if f.startswith(("avx", "fma", "amx")))
    names = ("XLA_FLAGS", "NPROC", "JAX_ENABLE_X64", "JAX_DEFAULT_PRNG_IMPL")
    return {"vectors": wide, "environment": {n: os.environ[n] for n in names if n in os.environ}}


def main() -> None:
    """Runs the configurations, prints their hashes, compares or writes them."""
    parser = measure.arguments(__doc__)
    parser.add_argument("--against", type=Path, help="recorded file to compare with")
    parser.add_argument("--only", help="run only configurations whose names contain this")
    options = parser.parse_args()
    cores = measure.pin(options.cores)
    sys.path.insert(0, str(Path(__file__).parent))
    recorded = (
        json.loads(options.against.read_text(encoding="utf-8"))["runs"] if options.against else {}
    )

    import tempfile

    import ssddl_jax as sd

    chosen = {name: c for name, c in CONFIGS.items() if not options.only or options.only in name}
    if options.tiny:
        chosen = {name: CONFIGS[name] for name in ("retry", "own model")}
    found, differing = {}, []
    for name, fields in chosen.items():
        config = sd.Config(**{"rounds": 3, **fields})
        with tempfile.TemporaryDirectory() as folder:
            summary = sd.run(replace(config, out=f"{folder}/run")).summary
        found[name] = {"fields": {"rounds": 3, **fields}, "run_sha256": summary["run_sha256"]}
        old = recorded.get(name, {}).get("run_sha256")
        same = "" if not recorded else " same" if old == summary["run_sha256"] else " DIFFERS"
        differing += [name] if same == " DIFFERS" else []
        print(f"{name:<34}{summary['run_sha256']}{same}", flush=True)
    measure.record(options.out, cores, {"features": features(), "runs": found})
    if differing:
        sys.exit(f"the bits differ from the recorded ones: {', '.join(differing)}")


if __name__ == "__main__":
    main()
