"""`verify`: replays a finished run from its config and compares hash by hash."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ssddl_jax.common.errors import ConfigError
from ssddl_jax.common.paths import user_path
from ssddl_jax.common.text import shown
from ssddl_jax.config.config import Config
from ssddl_jax.config.metrics import columns
from ssddl_jax.running.directory import read_config, read_rows, read_summary
from ssddl_jax.running.environment import differences
from ssddl_jax.running.input_files import found_again
from ssddl_jax.running.loop import begin, keeper, prepare, recipe_of, rounds
from ssddl_jax.running.metrics import summarise
from ssddl_jax.running.runner import same_parts
from ssddl_jax.running.trust import check_trust, resume_command

# What a replay cannot reproduce: the time that the run took, its device and its interruptions.
_NOT_COMPARED = ("seconds",)  # and optional metrics whose record says so
_OF_ITS_TIME = (
    "compilations",
    "compile_seconds",
    "seconds_per_round_median",
    "seconds_total",
    "peak_memory_mb",
    "device",
    "versions",
    "resumed_from",
)


class VerifyResult(NamedTuple):
    """The result of a replay."""

    equal: bool
    rounds: int  # replayed
    first_difference: str | None  # where the replay first differs from the record
    may_explain: list[str]  # differences of version, device and data
    run_sha256: str | None  # of the replay; None if it stopped early
    recorded_sha256: str


def verify(
    directory: str | Path,
    *,
    trust: bool = False,
    on_round: Callable[[dict[str, Any]], None] = lambda row: None,
    **parts: Any,
) -> VerifyResult:
    """Replays a finished run; writes nothing. Stops at the first round that differs.

    Parts that were passed to `run` must be passed again; code that the directory names is imported
    only if `trust` is true. Raises `ConfigError` if there is no finished run to verify.
    """
    directory = Path(user_path("directory", directory))
    config, about = read_config(directory)
    summary = read_summary(directory, config)
    if summary is None:
        remedy = f"is not finished; finish it with: {resume_command(directory)}"
        raise ConfigError("directory", directory, remedy)
    recorded = read_rows(directory)
    if len(recorded) != config.rounds:
        remedy = f"metrics.jsonl has {len(recorded)} rounds, the config {config.rounds}"
        raise ConfigError("directory", directory, remedy)
    check_trust(vars(config), trust, parts)
    parts = same_parts(directory, about, parts)
    prepared = prepare(config, parts, found_again(config, about, directory))
    explain = differences(about, prepared.sources)
    old, new = about.get("data_sha256"), recipe_of(prepared)["data_sha256"]
    if old != new:
        explain.append(f"data: recorded {old}, here {new}")
    keep = keeper(prepared)
    first, loop = begin(prepared, keep=keep)
    state = first
    silent = [column.key for column in columns(config) if not column.compared]
    rows: list[dict[str, Any]] = []
    claimed = str(summary["run_sha256"])
    # Those that were tested: which are due may have changed before the run went on.
    tested = {row["round"] for row in recorded if row.get("test_accuracy") is not None}
    tested.add(config.rounds - 1)
    for row, state in rounds(loop, first, 0, evaluated=tested):  # noqa: B007
        on_round(row)
        old = recorded[row["round"]]
        ignored = (*_NOT_COMPARED, *silent)
        differing = [n for n in row if n not in ignored and old.get(n) != row[n]]
        rows.append(row)
        if differing:
            where = f"round {row['round']}: {', '.join(differing)}"
            return VerifyResult(False, len(rows), where, explain, None, claimed)
    made_of = config, prepared.simulation, prepared.data
    made = summarise(*made_of, rows, state.params, loop.step, 0.0, [], prepared.given)
    made = json.loads(json.dumps(made))
    fields = [name for name in summary if name not in (*_OF_ITS_TIME, *silent)]
    earlier = {**made, **_earlier(config, rows)}
    differing = [n for n in fields if summary.get(n) not in (made.get(n), earlier.get(n))]
    difference = f"summary.json: {', '.join(differing)}" if differing else None
    return VerifyResult(
        difference is None,
        len(rows),
        difference,
        explain if difference else [],
        made["run_sha256"],
        claimed,
    )


def _earlier(config: Config, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What earlier versions recorded in a summary: the config's data even if others were given, and
    void rounds among those that were shared again.
    """
    retried = sum(row["attempt"] > 0 for row in rows)
    return {"data": shown(config.data), "rounds_retried": retried}
