"""What of a config can be checked without its model: names, the schedule, sums, the graph.

Free of JAX, so that the command line refuses in the time that Python takes to start; a run is
built from the same functions (`ssddl_jax.plan`), for whoever comes from Python.
"""

import csv
from pathlib import Path

from ssddl_jax.config import NAMES, Config, check_name
from ssddl_jax.data import check_dataset, validate_partition
from ssddl_jax.errors import ConfigError
from ssddl_jax.headroom import Headroom, capacity_kind, headroom
from ssddl_jax.paths import read_text
from ssddl_jax.protocols import ENCRYPTED
from ssddl_jax.standing import standing_of


def check(config: Config) -> None:
    """Raises `ConfigError` or `DataError` for what needs neither the model nor the data's rows."""
    for field in NAMES:
        check_name(field, getattr(config, field))
    check_dataset(config.data)
    validate_partition(config.partition, None, None, config.participants)
    if config.weighting == "uniform":
        room(config, 1)
    standing_of(config)
    if config.dropout_schedule is not None:
        read_schedule(config)


def room(config: Config, weight_max: int) -> Headroom:
    """The headroom of the config's sums; `weight_max` m_max. Raises `ConfigError`."""
    capacity = capacity_kind(config.ring_bits, config.rule)
    return headroom(
        clip=config.clip,
        fraction_bits=config.fraction_bits,
        group_size=config.group,
        weight_max=weight_max,
        kind="plaintext" if config.protocol in ENCRYPTED else capacity,
        stochastic=config.rounding == "stochastic",
    )


def read_schedule(config: Config) -> dict[int, set[int]]:
    """Who vanishes in which round, from a CSV file of round,participant (a header is allowed)."""
    path = Path(str(config.dropout_schedule))
    text = read_text("dropout_schedule", path, 1 << 28)
    table: dict[int, set[int]] = {}
    try:
        rows = list(csv.reader(text.splitlines()))
    except csv.Error as error:
        raise ConfigError("dropout_schedule", path, f"is not a CSV file: {error}") from error
    for number, row in enumerate(rows, start=1):
        if not row or (number == 1 and not row[0].strip().lstrip("-").isdigit()):
            continue
        try:
            round_, participant = (int(cell) for cell in row)
        except ValueError:
            remedy = f"line {number} is {','.join(row)!r}; each line must be round,participant"
            raise ConfigError("dropout_schedule", path, remedy) from None
        if not 0 <= round_ < 2**31 or not 0 <= participant < config.participants:
            remedy = (
                f"line {number}: rounds count from 0, participants 0..{config.participants - 1}"
            )
            raise ConfigError("dropout_schedule", path, remedy)
        table.setdefault(round_, set()).add(participant)
    return table
