"""`Config`: every choice of a run in one frozen dataclass, checked before anything else happens.

The command line has one flag for each field, and a TOML file one key. `Config` checks what follows
from the fields alone; `planning/plan.py` checks what depends on the data and the model, and
`simulation/build.py` turns a config into the round. Imports neither NumPy nor JAX, so that a
mistake is reported at once.
"""

import dataclasses
import difflib
import math
import os
import struct
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ssddl_jax.common.errors import ConfigError, written
from ssddl_jax.common.paths import user_path
from ssddl_jax.config import metrics, protocols, sources
from ssddl_jax.config.kinds import NONE, accepts, alternatives, choice_of, describe, is_none
from ssddl_jax.config.rules import CHOICE_WORDS, CHOICES, RULES, THRESHOLDS, Rule

if TYPE_CHECKING:
    RuleName = str
else:
    RuleName = Literal[CHOICES]  # checked, and shown by --help, like any other choice

MOST = 2**31 - 1  # default bound of a whole number: the compiled program uses int32

# Names of the package's own parts. The parts themselves are in tables that need JAX.
NAMES = {
    "model": ("mlp", "mlp-64", "cnn", "linear"),
    "prg": ("chacha20", "chacha12", "chacha8"),
    "local_optimizer": ("sgd", "momentum", "adam"),
    "server_optimizer": ("mean", "sgd", "momentum", "adam", "yogi"),
}
INPUTS = ("data", "dropout_schedule")  # fields that name a file to read
PATHS = (*INPUTS, "out")
_OPTAX = " of a function that returns an optax transformation"
_OWN = {"local_optimizer": _OPTAX, "server_optimizer": _OPTAX}


def _named(field: str) -> str:
    return f"{', '.join(NAMES[field])}, or module:attribute"


def _field(default: Any, text: str, least: float | None = None, most: float | None = None) -> Any:
    return dataclasses.field(default=default, metadata={"help": text, "least": least, "most": most})


@dataclass(frozen=True, kw_only=True)
class Config:
    """The settings of one run.

    Raises `ConfigError`, a `ValueError`, if a field or a combination of fields is impossible.
    """

    data: str = _field("mnist-small", sources.WORKS)
    partition: str = _field(
        "iid", "iid, dirichlet:ALPHA, shards:K, writers, or resample:E (E rows each, by id)"
    )
    model: str = _field("mlp", _named("model"))
    protocol: str = _field("ssddl", f"one of {', '.join(protocols.PROTOCOLS)}")
    engine: Literal["pairwise", "ideal", "reference"] = _field(
        "pairwise", "every mask; uploads drawn from their distribution; or slow Python integers"
    )
    scale: float | Literal["auto"] = _field(
        "auto", "divisor of the inputs; auto: 255 for uint8, 1 for floats"
    )
    participants: int = _field(100, "number of participants N", 3)
    group_size: int | Literal["all"] = _field(25, "members n of each round's group, or all", 3)
    selection: Literal["random", "rotate"] = _field("random", "how each round's group is drawn")
    neighbours: int | Literal["complete", "auto"] = _field(
        "complete", "sharing graph: complete, auto, or an even number of partners", 2
    )
    shares: Literal["directed", "paired"] = _field(
        "directed", "two shares per pair, or one (half the PRG words, equal strength)"
    )
    transport: Literal["seeded", "explicit"] = _field(
        "seeded", "both ends derive a share, or the dealer sends it (same numbers, more traffic)"
    )
    prg: str = _field("chacha20", _named("prg"))
    ring_bits: Literal[32, 64] = _field(32, "bits of a ring element")
    clip: float = _field(1.0, "each coordinate of an update is clipped to [-X, X], as float32")
    fraction_bits: int | Literal["auto"] = _field("auto", "binary places of the encoding", 0, 24)
    rounding: Literal["auto", "nearest", "stochastic"] = _field("auto", "auto: by fraction bits")
    weighting: Literal["uniform", "examples"] = _field("uniform", "weight of a member's update")
    nonfinite: Literal["exclude", "stop"] = _field("exclude", "on a NaN or infinite update")
    rounds: int = _field(40, "rounds to run", 1)
    local_epochs: int = _field(1, "a member's passes over its own data in a round", 1)
    batch_size: int = _field(10, "examples in a local step", 1)
    learning_rate: float = _field(0.1, "learning rate of the local optimizer")
    local_optimizer: str = _field(
        "sgd", f"{_named('local_optimizer')}; it and its schedule restart in every round"
    )
    server_optimizer: str = _field("mean", _named("server_optimizer"))
    dropout: float = _field(0.0, "fraction of each group that vanishes after sharing", 0.0, 1.0)
    dropout_rule: RuleName = _field(  # noqa: RUF009 (as any other field)
        "retry", f"what the survivors do after a dropout: {CHOICE_WORDS}"
    )
    dropout_schedule: str | None = _field(None, "CSV of round,participant lines; replaces dropout")
    threshold: int | Literal["auto"] = _field("auto", f"shares t that {THRESHOLDS} need", 2)
    max_corrupt: float = _field(0.1, "fraction gamma of colluders to tolerate", 0.0, 1.0)
    max_dropout: float = _field(0.1, "fraction delta of dropouts to tolerate", 0.0, 1.0)
    sigma: int = _field(40, "statistical security, bits", 1, 256)
    eta: int = _field(30, "correctness, bits", 1, 256)
    dssgd_theta_u: float = _field(0.1, "dssgd: fraction of coordinates to upload", 0.0, 1.0)
    dssgd_theta_d: float = _field(1.0, "dssgd: fraction of coordinates to download", 0.0, 1.0)
    dssgd_rule: Literal["largest", "random"] = _field(
        "largest", "dssgd: upload the largest coordinates, or random ones above dssgd_tau"
    )
    dssgd_gamma: float = _field(1.0, "dssgd: bound on the magnitude of an uploaded coordinate")
    dssgd_tau: float = _field(1e-4, "dssgd: least magnitude of a randomly chosen coordinate", 0.0)
    dssgd_schedule: Literal["round-robin", "random", "asynchronous"] = _field(
        "random", "dssgd: order of the visits; asynchronous: without the most recent uploads"
    )
    dssgd_epsilon: float = _field(
        0.0, "dssgd: epsilon of a visit for discrete Laplace noise; 0 for none", 0.0
    )
    tile_size: int | Literal["auto"] = _field("auto", "members trained side by side", 1, 4096)
    schedule: Literal["auto", "cpu", "gpu", "tpu"] = _field(
        "auto", "order in which PRG words are made (same numbers); auto: by platform"
    )
    precision: Literal["float32", "tensorfloat32", "bfloat16"] = _field(
        "float32", "precision of matrix products on accelerators; a CPU uses float32"
    )
    devices: int | Literal["all"] = _field("all", "devices to use", 1)
    threads: int | Literal["auto"] = _field(
        "auto", "threads of XLA on a CPU; the last bits of training depend on them", 1, 1024
    )
    seed: int = _field(0, "0 <= seed < 2^64; the same seed replays the whole run", 0, 2**64 - 1)
    eval_every: int = _field(1, "rounds between evaluations on the test set", 1)
    checkpoint_every: int = _field(10, "rounds between checkpoints", 1)
    metrics: str | None = _field(
        None, f"optional metrics of each round, separated by commas: {', '.join(metrics.METRICS)}"
    )
    sinks: str | None = _field(
        None, "further destinations of metrics, separated by commas: tensorboard, module:attribute"
    )
    out: str | None = _field(None, "run directory [a new one in runs/]")

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value = _checked(field.name, getattr(self, field.name), hints[field.name])
            object.__setattr__(self, field.name, value)
            _check_range(field.name, value, field.metadata)
        for check in (_check_numbers, _check_group, _check_features):
            check(self)

    @property
    def group(self) -> int:
        """n, the number of slots of a round's group."""
        return self.participants if self.group_size == "all" else self.group_size

    @property
    def sums_securely(self) -> bool:
        """Whether the server receives only a sum of encoded updates."""
        return protocols.protocol_of(self).secure

    @property
    def in_python(self) -> bool:
        """Whether the oracle shares, in Python integers, instead of the compiled round."""
        return self.engine == "reference" and self.sums_securely

    @property
    def rule_in_force(self) -> Rule:
        """The protocol's own dropout rule if it has one, else the one `dropout_rule` names."""
        return RULES[protocols.protocol_of(self).rule or self.dropout_rule]

    @property
    def paired(self) -> bool:
        """Whether a pair has one share instead of two."""
        return self.shares == "paired" or self.rule_in_force.paired

    @property
    def graph(self) -> int | str:
        """The sharing graph in force; the default of a sparse protocol is auto, not complete."""
        if protocols.protocol_of(self).sparse and self.neighbours == "complete":
            return "auto"
        return self.neighbours


def _checked(name: str, value: Any, kind: Any) -> Any:
    value = None if name != "out" and is_none(value, kind) else pythons(value)
    if name in PATHS and isinstance(value, str | os.PathLike):
        value = _path(name, value)
    if not accepts(value, kind):
        choices = [str(choice) for part in alternatives(kind) for choice in choice_of(part)]
        near = difflib.get_close_matches(value, choices, n=1) if isinstance(value, str) else []
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ConfigError(name, written(value), f"must be {describe(kind)}{hint}")
    try:
        return float(value) if kind is float else value
    except OverflowError:
        raise ConfigError(name, value, "must be a finite number") from None


def pythons(value: Any) -> Any:
    """Converts a NumPy or JAX scalar to a Python number; returns anything else unchanged."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
        return float(value) if hasattr(value, "dtype") else value  # `item` keeps a long double
    return value


def _path(name: str, value: str | os.PathLike[str]) -> str:
    """A path as text. A `Path` stays a path even if its text is a dataset's name, or none."""
    if isinstance(value, str):
        return user_path(name, value) if is_path(name, value) else value
    text = user_path(name, value)
    return text if is_path(name, text) else os.path.join(os.curdir, text)


def _check_range(name: str, value: Any, bounds: Mapping[str, Any]) -> None:
    if not isinstance(value, int | float):
        return
    least, most = bounds["least"], bounds["most"]
    if most is None and isinstance(value, int):
        most = MOST
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(name, value, "must be a finite number")
    if least is not None and value < least:
        why = "; with 2, each member would learn the other's update" if name == "group_size" else ""
        raise ConfigError(name, value, f"must be at least {least}{why}")
    if most is not None and value > most:
        raise ConfigError(name, value, f"must be at most {most}")


def _check_numbers(config: Config) -> None:
    clip = _float32(config.clip)
    object.__setattr__(config, "clip", clip)
    if not (clip > 0 and math.isfinite(clip)):
        raise ConfigError("clip", config.clip, "must be a positive float32, such as 1.0")
    if config.scale != "auto" and config.scale <= 0:
        raise ConfigError("scale", config.scale, "must be positive, such as 255, or auto")
    if config.learning_rate <= 0:
        raise ConfigError("learning_rate", config.learning_rate, "must be positive, such as 0.1")


def _float32(value: float) -> float:
    """The nearest float32, or infinity if the value is too large."""
    try:
        return float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


def _check_group(config: Config) -> None:
    if config.group > config.participants:
        remedy = f"must be at most participants = {config.participants}, or all"
        raise ConfigError("group_size", config.group, remedy)
    if isinstance(config.neighbours, int) and config.neighbours % 2:
        remedy = f"must be even, such as {config.neighbours + 1}, or complete, or auto"
        raise ConfigError("neighbours", config.neighbours, remedy)


def _check_features(config: Config) -> None:
    """Refuses combinations that make no sense."""
    if config.protocol not in protocols.PROTOCOLS:
        near = difflib.get_close_matches(config.protocol, protocols.PROTOCOLS, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        remedy = f"must be one of {', '.join(protocols.PROTOCOLS)}{hint}"
        raise ConfigError("protocol", config.protocol, remedy)
    protocols.check(config)
    metrics.check(config)
    rule = RULES[config.dropout_rule]
    if config.sums_securely and config.engine == "ideal" and not rule.ideal:
        drawn = " or ".join(f"dropout_rule {name}" for name in CHOICES if RULES[name].ideal)
        remedy = f"engine ideal has no pair shares to open; use {drawn} or engine pairwise"
        raise ConfigError("dropout_rule", config.dropout_rule, remedy)
    if rule.complete:
        sparse = isinstance(config.neighbours, int) and config.neighbours < config.group - 1
        if sparse or config.neighbours == "auto":
            remedy = f"dropout_rule {rule.name} needs the complete graph; use neighbours complete"
            raise ConfigError("neighbours", config.neighbours, remedy)
    if rule.field and config.ring_bits != 32:
        remedy = f"dropout_rule {rule.name} shares in a 31-bit field; use ring_bits 32"
        raise ConfigError("ring_bits", config.ring_bits, remedy)
    threshold = config.threshold if rule.needs_threshold else "auto"
    if isinstance(threshold, int) and threshold > config.group:
        remedy = f"must be at most group_size = {config.group}"
        raise ConfigError("threshold", threshold, remedy)
    if config.dropout_schedule is not None and config.dropout > 0:
        remedy = "cannot be combined with dropout_schedule; set dropout to 0"
        raise ConfigError("dropout", config.dropout, remedy)


def check_name(field: str, name: str) -> None:
    """Refuses a name that is neither the package's own nor `module:attribute`."""
    if ":" not in name and name not in NAMES[field]:
        raise ConfigError(field, name, f"must be one of {_named(field)}{_OWN.get(field, '')}")


def is_path(field: str, value: str) -> bool:
    """Whether the text of a field in `PATHS` is a path: not a dataset's name, nor none."""
    return value not in sources.DATASETS if field == "data" else field == "out" or value != NONE
