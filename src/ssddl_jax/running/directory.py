"""The files of the run directory: writing and reading. `outputs` checks what may be written where.

config.toml     the complete config, and the environment of the run
metrics.jsonl   a line per round; metrics.csv the same without the groups' ids
checkpoints/    the last few (`ssddl_jax.running.checkpoints`)
summary.json    once the run is done
report.html     made from the files above (`ssddl_jax.report`)
"""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ssddl_jax.common.atomic import write_whole
from ssddl_jax.common.errors import ConfigError
from ssddl_jax.common.outputs import check_run
from ssddl_jax.common.replacing import completed
from ssddl_jax.config.config import Config
from ssddl_jax.config.toml_files import read_table, read_toml
from ssddl_jax.running.environment import conditions, device_name, versions
from ssddl_jax.running.trust import resume_command

_NOTE = """\
# The seed is the simulator's escrow: it regenerates every key of this run, so that the
# run can be replayed. It is not part of the privacy claim.
"""


def write_config(config: Config, path: Path, about: dict[str, Any] | None = None) -> None:
    """Writes the complete config and the environment as TOML, which `--config` can read."""
    import tomli_w  # needed only for writing

    fields = {name: value for name, value in asdict(config).items() if value is not None}
    environment = {
        "device": device_name(),
        "versions": versions(),
        "conditions": conditions(),
        **(about or {}),
    }
    write_whole(path, _NOTE + tomli_w.dumps({**fields, "environment": environment}))


def read_config(directory: Path) -> tuple[Config, dict[str, Any]]:
    """The config of a run directory, and its [environment].

    `out` is the directory's current path. If `threads` was auto, it is the number that was used.
    Raises `ConfigError` if this is not a run directory.
    """
    completed(directory)
    path = directory / "config.toml"
    if not directory.is_dir() or not path.exists():
        remedy = "is not a run directory, as it has no config.toml; name the directory of a run"
        raise ConfigError("directory", directory, remedy)
    config = Config(**read_toml(path))
    check_run(directory)
    environment = read_table(path).get("environment", {})
    about = environment if isinstance(environment, dict) else {}
    if config.threads == "auto" and type(about.get("threads")) is int:
        config = replace(config, threads=about["threads"])
    return replace(config, out=str(directory)), about


def read_summary(directory: Path, config: Config) -> dict[str, Any] | None:
    """summary.json; None if the run is not done, or if `rounds` was raised in config.toml since.

    Raises `ConfigError` if it is damaged.
    """
    path = directory / "summary.json"
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or not {"run_sha256", "rounds"} <= set(found):
            raise ValueError("it has no run_sha256")
    except (OSError, ValueError) as error:
        remedy = f"summary.json is damaged ({error}); delete it, then: {resume_command(directory)}"
        raise ConfigError("directory", directory, remedy) from error
    return found if found["rounds"] == config.rounds else None


def read_rows(directory: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl. Raises `ConfigError` if it is damaged."""
    try:
        with (directory / "metrics.jsonl").open(encoding="utf-8") as file:
            rows: list[dict[str, Any]] = [json.loads(line) for line in file]
            if not all(isinstance(row, dict) for row in rows):
                raise ValueError("a line is not an object")
    except (OSError, ValueError) as error:
        raise ConfigError("directory", directory, f"metrics.jsonl is damaged: {error}") from error
    return rows
