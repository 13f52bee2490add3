"""What does the TPU's compiler estimate for rounds on one chip and on many?

Nothing runs and nothing is measured. Every round is compiled ahead of time (the extra `tpu`). Its
seconds are the estimate that `ssddl compile` reports; memory and collectives are those of the
compiled program. Every participant has 20 examples in one batch, and everybody takes part.
"""

import os
from importlib.util import find_spec
from typing import Any, NamedTuple

import measure

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # where libtpu is installed, JAX looks for TPUs


class Case(NamedTuple):
    """A round and the chips that it is compiled for."""

    part: str
    topology: str
    members: int
    fields: dict[str, Any]


IDEAL: dict[str, Any] = {"engine": "ideal"}
AUTO: dict[str, Any] = {"neighbours": "auto"}
PAIRED: dict[str, Any] = {"neighbours": "auto", "shares": "paired"}
CHIPS = {"v5e:1x1": 1, "v5e:2x2": 4, "v5e:4x4": 16, "v5e:8x8": 64, "v5e:16x16": 256}
ONE, FOUR, MANY = "v5e:1x1", "v5e:2x2", "v5e:16x16"
MILLION, EACH, FEW = 1_000_000, 1000, 256
MEMORY = 16 << 30  # bytes per chip
CASES = (
    *(Case("one chip", ONE, 1000, {"model": "mlp-64", **more}) for more in (IDEAL, AUTO)),
    Case("one chip", ONE, 64, {"model": "mlp-64"}),
    *(Case("a million", ONE, MILLION, {"model": "mlp-64", **more}) for more in (IDEAL, AUTO)),
    *(
        Case("many chips", topology, FEW * CHIPS[topology], {"model": model, **more})
        for topology in (FOUR, MANY)
        for model in ("mlp", "cnn")
        for more in (IDEAL, AUTO)
    ),
    *(
        Case("weak scaling", topology, EACH * CHIPS[topology], {"model": "mlp-64", **more})
        for more in (IDEAL, PAIRED)
        for topology in CHIPS
    ),
)
TINY = (Case("one chip", ONE, 64, {"model": "linear", **IDEAL}),)
KEPT = (
    *("parameters", "neighbours", "tile_size", "compile_seconds", "argument_bytes"),
    *("output_bytes", "temporary_bytes", "donated_bytes", "collectives", "types_64_bit"),
    "host_callbacks",
)


def graph_of(fields: dict[str, Any]) -> str:
    """The engine, or the sharing graph of pairwise masks."""
    if fields.get("engine") == "ideal":
        return "ideal"
    graph = fields.get("neighbours", "complete")
    return f"{graph}, paired" if fields.get("shares") == "paired" else str(graph)


def compiled(case: Case) -> tuple[dict[str, Any], dict[str, Any]]:
    """(a row of the results, the whole report of `ssddl compile`)."""
    import ssddl_jax as sd
    from ssddl_jax.measure.compile_ahead import compile_report
    from ssddl_jax.planning.requests import parse_target

    config = sd.Config(
        participants=case.members,
        group_size="all",
        partition="resample:20",
        batch_size=20,
        **case.fields,
    )
    report = compile_report(config, parse_target(f"tpu:{case.topology}"), fit=False)
    estimate = {name: value for name, value in report["estimate"].items() if name != "how"}
    used = report["argument_bytes"] + report["output_bytes"] + report["temporary_bytes"]
    used -= report["donated_bytes"]
    row = {
        "part": case.part,
        "topology": case.topology,
        "chips": report["devices"],
        "members": case.members,
        "model": report["model"],
        "round": graph_of(case.fields),
        **{name: report[name] for name in KEPT},
        "bytes_per_chip": used,
        "fits_a_chip": used <= MEMORY,
        "words_per_chip": sum(kernel["words"] for kernel in estimate["kernels"]),
        "estimate": estimate,
    }
    return row, report


def line_of(row: dict[str, Any]) -> list[Any]:
    """A row of the printed table."""
    estimate = row["estimate"]
    modules = estimate["seconds_by_module"]
    return [
        *(row["part"], row["chips"], row["members"], row["model"], row["round"]),
        estimate["seconds"],
        modules["LocalTrain"],
        modules["ParaShare"],
        row["words_per_chip"] / 1e9,
        sum(row["collectives"].values()),
        estimate["collective_bytes"] / 1e6,
        row["bytes_per_chip"] / 2**30,
    ]


def main() -> None:
    """Compiles all cases, prints the table, writes the JSON."""
    options = measure.arguments(__doc__, cores=False).parse_args()
    if find_spec("libtpu") is None:
        print("skipped: the TPU's compiler is not installed; it is the extra `tpu`")
        return
    rows, how, kind = [], "", ""
    for case in TINY if options.tiny else CASES:
        row, report = compiled(case)
        how, kind = report["estimate"]["how"], report["device_kind"]
        rows.append(row)
        print(*line_of(row), flush=True)
    head = (
        *("part", "chips", "members", "model", "round", "estimated s", "training s", "sharing s"),
        *("Gwords per chip", "collectives", "collective MB", "GiB per chip"),
    )
    print(measure.table(head, [line_of(row) for row in rows]))
    note = "estimates of the TPU's compiler; nothing ran and no time is measured"
    results = {"note": note, "device_kind": kind, "how": how, "rows": rows}
    measure.record(options.out, os.cpu_count() or 1, results)


if __name__ == "__main__":
    main()
