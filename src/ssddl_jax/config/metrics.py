"""The optional metrics of a round: one record each, from which everything else follows.

A metric is one number for each member's clipped update. `Config.metrics` names those that a run
computes; the others cost nothing. Reduced over the alive members, the numbers become keys of the
round's line (`update_norm_mean`), and so columns of metrics.csv, points of a sink and curves of the
report. Reduced over the rounds, they become keys of the summary and rows of the closing table.

Imports neither NumPy nor JAX: a measure receives the array library as an argument.
"""

import difflib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ssddl_jax.common.errors import ConfigError
from ssddl_jax.config.protocols import PROTOCOLS, protocol_of


class Metric(NamedTuple):
    """`measure(xp, pieces)` is traced into the round: the clipped updates of a tile of T members,
    in one or more pieces f32 [T, ...] that together hold each coordinate once -> f32 [T]; `xp` is
    jax.numpy. Its result for an update that is not finite is ignored.

    `over`: names in `WORDS`: how the alive members' numbers become one, with one key each.
    `compared`: whether `verify` compares the keys, to the bit.
    """

    title: str
    measure: Callable[[Any, Sequence[Any]], Any]
    over: tuple[str, ...] = ("mean", "max")
    compared: bool = True


class Column(NamedTuple):
    """One key that an optional metric adds to each line of metrics, and to the summary."""

    key: str
    title: str
    name: str  # of the metric
    over: str
    compared: bool


def _norm(xp: Any, pieces: Sequence[Any]) -> Any:
    squares = [xp.sum(xp.square(piece), axis=tuple(range(1, piece.ndim))) for piece in pieces]
    return xp.sqrt(sum(squares))


METRICS = {"update_norm": Metric("L2 norm of a clipped update", _norm)}
WORDS = {  # by method of an array
    "mean": "mean of the members",
    "max": "greatest of the members",
    "min": "least of the members",
    "sum": "sum over the members",
}


def asked(config: Any) -> tuple[str, ...]:
    """The names in a config's `metrics`, in order and without repetition."""
    names = (name.strip() for name in config.metrics.split(",")) if config.metrics else ()
    return tuple(dict.fromkeys(names))


def columns(config: Any) -> list[Column]:
    """The keys that a config's optional metrics add, in the order of a line."""
    return [
        Column(f"{name}_{over}", f"{metric.title}, {WORDS[over]}", name, over, metric.compared)
        for name, metric in ((name, METRICS[name]) for name in asked(config))
        for over in metric.over
    ]


def check(config: Any) -> None:
    """Refuses unknown metrics, and any metric if members do not train from the same parameters.

    Raises `ConfigError`.
    """
    for name in asked(config):
        if name not in METRICS:
            near = difflib.get_close_matches(name, METRICS, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            remedy = f"must be one or more of {', '.join(METRICS)}, separated by commas{hint}"
            raise ConfigError("metrics", repr(name), remedy)
    if config.metrics and protocol_of(config).one_by_one:
        others = [name for name, protocol in PROTOCOLS.items() if not protocol.one_by_one]
        remedy = (
            f"is not available with protocol {config.protocol}, whose members do not all train "
            f"from the same model; omit it, or use protocol {', '.join(others)}"
        )
        raise ConfigError("metrics", config.metrics, remedy)
