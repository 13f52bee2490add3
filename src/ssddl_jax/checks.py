"""What of a config can be checked without its model: names, the schedule, sums, the graph.

Free of JAX, so that the command line refuses in the time that Python takes to start; a run is
built from the same functions (`ssddl_jax.plan`), for whoever comes from Python.
"""

import csv
from fractions import Fraction
from math import floor
from pathlib import Path

from ssddl_jax import graph_search
from ssddl_jax.config import NAMES, Config, check_name
from ssddl_jax.data import check_dataset, validate_partition
from ssddl_jax.errors import ConfigError
from ssddl_jax.headroom import Headroom, capacity_kind, headroom
from ssddl_jax.paths import read_text
from ssddl_jax.protocols import ENCRYPTED


def check(config: Config) -> None:
    """Raises `ConfigError` or `DataError` for what needs neither the model nor the data's rows."""
    for field in NAMES:
        check_name(field, getattr(config, field))
    check_dataset(config.data)
    validate_partition(config.partition, None, None, config.participants)
    if config.weighting == "uniform":
        room(config, 1)
    sharing_graph(config)
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


def sharing_graph(config: Config) -> tuple[int, int, int]:
    """(k, t, most colluders) of the sharing graph. Raises `ConfigError`."""
    size = config.group
    gamma, delta = repr(config.max_corrupt), repr(config.max_dropout)
    if config.graph == "auto":
        try:
            found = graph_search.smallest_graph(size, gamma, delta, config.sigma, config.eta)
        except ValueError as error:
            raise ConfigError("neighbours", "auto", str(error)) from error
        neighbours, threshold = found.neighbours, found.threshold
    else:
        asked = size - 1 if config.graph == "complete" else int(config.graph)
        neighbours = min(asked, size - 1)
        threshold = 2
        if config.rule in ("shamir", "secagg") and config.threshold == "auto":
            try:
                threshold, _ = graph_search.threshold_for(
                    size, neighbours, gamma, delta, config.sigma, config.eta
                )
            except ValueError as error:
                raise ConfigError("threshold", "auto", str(error)) from error
    if config.threshold != "auto":
        threshold = config.threshold
        if threshold > size:
            raise ConfigError("threshold", threshold, f"must be at most group_size = {size}")
    colluders = _colluders(config, neighbours, threshold)
    if config.rule == "secagg" and threshold > neighbours:
        raise ConfigError("threshold", threshold, f"must be at most the {neighbours} partners")
    return neighbours, threshold, colluders


def least_alive(config: Config) -> int:
    """Survivors without which a round of retry or reveal, or of protocol plain, is void."""
    return max(3, config.group - floor(Fraction(repr(config.max_dropout)) * config.group))


def _colluders(config: Config, neighbours: int, threshold: int) -> int:
    """How many may collude with the server in any round that stands: two honest updates must be in
    every sum; where shares open secrets, the others' are too few; and the honest survivors of a
    sparse graph must hang together, for which max_corrupt of the group are allowed, or fewer if the
    graph is too thin.
    """
    opens = config.rule in ("shamir", "secagg")
    fewest = max(3, threshold) if opens else least_alive(config)
    most = min(fewest - 2, threshold - 1) if opens else fewest - 2
    if neighbours >= config.group - 1:
        return most
    if max(config.max_corrupt, config.max_dropout) >= 1:
        return 0  # nobody honest need be left
    gamma, delta = repr(config.max_corrupt), repr(config.max_dropout)
    held = graph_search.max_colluders(config.group, neighbours, gamma, delta, config.sigma)
    return min(most, held)


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
