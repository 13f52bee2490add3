"""What there is to say of every protocol before any of it is built: names, facts, what it refuses.

Free of JAX. Builders stand in `baselines/registry.py` (rounds of their own) and
`config/rules.py` (secure sums).
"""

from typing import Any, NamedTuple

from ssddl_jax.common.errors import ConfigError
from ssddl_jax.common.lazily import resolve


class Facts(NamedTuple):
    """A protocol in words, for tables; `server` and `participant`: what each learns of others."""

    family: str  # secure sum, plain sum, in turn, reference
    server: str
    participant: str
    survives: str  # dropouts
    source: str
    note: str = ""  # what a run's summary must not leave unsaid
    check: str = ""  # module:function (config), refuses what the protocol has no room for
    notes: str = ""  # module:function (config, rounds, dimension), more notes


SUM = "the sum of the updates"
EACH = "every update, in the clear"
MODEL = "the model of each round"
_DECRYPTED = (
    "the round computes what decryption yields, in integers; ciphertexts themselves are made, "
    "checked and timed on a slice by ssddl compare"
)
PROTOCOLS: dict[str, Facts] = {
    "ssddl": Facts("secure sum", SUM, MODEL, "by its rule", "Duan, Zhou, Li 2020"),
    "secagg": Facts("secure sum", SUM, MODEL, "up to n - t", "Bonawitz et al. 2017"),
    "secagg+": Facts(
        "secure sum",
        SUM,
        MODEL,
        "up to max_dropout n, while t partners of each are left",
        "Bell et al. 2020",
    ),
    "plain": Facts("plain sum", EACH, MODEL, "any", "McMahan et al. 2017"),
    "dssgd": Facts(
        "in turn",
        "the chosen coordinates of every update, exactly",
        "the model after every visit",
        "any: a visit is lost",
        "Shokri, Shmatikov 2015",
        check="ssddl_jax.baselines.laplace:check",
        notes="ssddl_jax.baselines.laplace:notes",
    ),
    "phong-lwe": Facts(
        "in turn",
        "nothing; with one participant, every update",
        "the model after every visit",
        "any: a visit is lost",
        "Phong et al. 2018",
        note=_DECRYPTED,
    ),
    "phong-paillier": Facts(
        "in turn",
        "nothing; with one participant, every update",
        "the model after every visit",
        "any: a visit is lost",
        "Phong et al. 2018",
        note=_DECRYPTED,
    ),
    "snt": Facts(
        "in turn",
        "nothing; with one participant, its neighbour's update",
        "the model as its predecessor left it",
        "any: a visit is lost",
        "Phong, Phuong 2019",
    ),
    "central": Facts("reference", "all data", "nothing", "none take part", "SGD on pooled data"),
    "standalone": Facts("reference", "nothing", "nothing", "none are needed", "everybody alone"),
}
SECURE = tuple(name for name, facts in PROTOCOLS.items() if facts.family == "secure sum")
IN_TURN = tuple(name for name, facts in PROTOCOLS.items() if facts.family == "in turn")
SECAGG = ("secagg", "secagg+")
ENCRYPTED = ("phong-lwe", "phong-paillier")
ONE_BY_ONE = (*IN_TURN, "central", "standalone")  # nobody trains beside another
# What a protocol leaves no choice of, by family or name: (field, the one value it takes, why).
_ONE_WAY: dict[str, list[tuple[str, Any, str]]] = {
    "secagg": [
        ("engine", "pairwise", "secagg opens shares, so every mask is computed"),
        ("dropout_rule", "retry", "secagg has a rule of its own for dropouts"),
        ("transport", "seeded", "secagg's masks come from agreed keys"),
    ],
    "in turn": [
        ("weighting", "uniform", "updates are added as they come"),
        ("server_optimizer", "mean", "updates are added as they come"),
    ],
    "reference": [
        ("weighting", "uniform", "nothing is averaged"),
        ("server_optimizer", "mean", "there is no server's step"),
    ],
}


def facts_of(config: Any) -> Facts:
    """The facts of a config's protocol, with the noise that it asks for."""
    facts = PROTOCOLS[config.protocol]
    if config.protocol == "dssgd" and config.dssgd_epsilon > 0:
        return facts._replace(server="the chosen coordinates of every update, with Laplace noise")
    return facts


def notes(config: Any, rounds: int, dimension: int) -> list[str]:
    """What a run's summary must not leave unsaid of its protocol; `dimension`: of the model."""
    facts = PROTOCOLS[config.protocol]
    more = resolve(facts.notes)(config, rounds, dimension) if facts.notes else []
    return [*([facts.note] if facts.note else []), *more]


def check(config: Any) -> None:
    """Refuses what a config's protocol has no room for. Raises `ConfigError`."""
    name = config.protocol
    kind = "secagg" if name in SECAGG else PROTOCOLS[name].family
    for field, only, why in _ONE_WAY.get(kind, []):
        if getattr(config, field) != only:
            remedy = f"protocol {name} takes {only} only: {why}"
            raise ConfigError(field, getattr(config, field), remedy)
    if name == "secagg" and config.neighbours != "complete":
        remedy = "protocol secagg shares with everybody; use complete, or protocol secagg+"
        raise ConfigError("neighbours", config.neighbours, remedy)
    if PROTOCOLS[name].check:
        resolve(PROTOCOLS[name].check)(config)
