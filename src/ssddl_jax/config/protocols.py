"""The records of all protocols, and questions about the protocol of a config."""

from typing import Any

from ssddl_jax.common.errors import ConfigError
from ssddl_jax.common.lazily import resolve
from ssddl_jax.config.protocol import Only, OwnRound, Protocol

_SUM = "the sum of the updates"
_EACH = "every update, in the clear"
_MODEL = "the model of each round"
_VISITS = "the model after every visit"
_LOST = "any; each loses its visit"
_OWN_BYTES = "what a member sends and receives in its round"
_DECRYPTED = (
    "members take turns (our choice), whereas in the source they work at the same time, by "
    "asynchronous SGD; the round computes what decryption yields, in integers; ssddl compare "
    "makes, checks and times real ciphertexts on a slice"
)
_SECAGG_BYTES = (
    "parameters down, packed masked words up; each member's two public keys up and its partners' "
    "down; shares of its two secrets up and its partners' shares for it down; the shares opened to "
    "the server; 32 bytes per key and per share"
)
_SECAGG_ONLY = (
    Only("engine", "pairwise", "secagg opens shares, so every mask is computed"),
    Only("dropout_rule", "retry", "secagg has its own rule for dropouts"),
    Only("transport", "seeded", "secagg's masks come from agreed keys"),
)
_ORDER_ONLY = {
    "side by side": (),
    "in turn": (
        Only("weighting", "uniform", "updates are added as they arrive"),
        Only("server_optimizer", "mean", "updates are added as they arrive"),
    ),
    "reference": (
        Only("weighting", "uniform", "nothing is averaged"),
        Only("server_optimizer", "mean", "the server takes no step"),
    ),
}

_ALL = (
    Protocol(
        name="ssddl",
        source="Duan, Zhou, Li 2020",
        server=_SUM,
        participant=_MODEL,
        survives="by its rule",
        note="",
        counted="parameters down, uploads up, shares that travel, pair keys that are opened; "
        "4 bytes per word, 32 per key",
        messages="ssddl_jax.planning.network:of_sharing",
        keys="ssddl_jax.planning.key_agreement:of_ssddl",
        own=None,
        pair_shares=True,
        explained=True,
        title="SSDDL, simulated",
        sentence="secret sharing (SSDDL), each member with {partners}",
        panel="ssddl_jax.report.privacy:ssddl",
        variant="dropout_rule",
    ),
    Protocol(
        name="secagg",
        source="Bonawitz et al. 2017",
        server=_SUM,
        participant=_MODEL,
        survives="up to n - t",
        note="",
        counted=_SECAGG_BYTES,
        messages="ssddl_jax.planning.network:of_sharing",
        keys="ssddl_jax.baselines.secagg_bytes:keys",
        own=None,
        rule="secagg",
        only=_SECAGG_ONLY,
        check="ssddl_jax.baselines.secagg_bytes:check_complete",
    ),
    Protocol(
        name="secagg+",
        source="Bell et al. 2020",
        server=_SUM,
        participant=_MODEL,
        survives="up to max_dropout n, if at least t partners of each are left",
        note="",
        counted=_SECAGG_BYTES,
        messages="ssddl_jax.planning.network:of_sharing",
        keys="ssddl_jax.baselines.secagg_bytes:keys",
        own=None,
        rule="secagg",
        sparse=True,
        only=_SECAGG_ONLY,
    ),
    Protocol(
        name="plain",
        source="McMahan et al. 2017",
        server=_EACH,
        participant=_MODEL,
        survives="up to max_dropout n",
        note="",
        counted=_OWN_BYTES,
        messages=2,
        keys="",
        own=OwnRound(
            order="side by side",
            builder="ssddl_jax.baselines.plain:plain",
            bytes="ssddl_jax.baselines.traffic:whole_model",
            work="ssddl_jax.baselines.plain:work",
        ),
        quorum=True,
        explained=True,
        sentence="plain averaging, without sharing",
        exposes="The server sees every member's update in the clear.",
        panel="ssddl_jax.report.privacy:plain",
    ),
    Protocol(
        name="dssgd",
        source="Shokri, Shmatikov 2015",
        server="the chosen coordinates of every update, exactly",
        participant=_VISITS,
        survives=_LOST,
        note="",
        counted=_OWN_BYTES,
        messages=2,
        keys="",
        own=OwnRound(
            order="in turn",
            builder="ssddl_jax.baselines.dssgd:dssgd",
            bytes="ssddl_jax.baselines.dssgd_bytes:moved",
            work="ssddl_jax.baselines.dssgd:work",
        ),
        kept="ssddl_jax.baselines.dssgd:models_kept",
        check="ssddl_jax.baselines.laplace:check",
        learns="ssddl_jax.baselines.laplace:server_learns",
        notes="ssddl_jax.baselines.laplace:notes",
        variant="dssgd_theta_u",
        rows=("1", "0.1", "0.01"),
    ),
    Protocol(
        name="phong-lwe",
        source="Phong et al. 2018",
        server="nothing; with one participant, every update",
        participant=_VISITS,
        survives=_LOST,
        note=_DECRYPTED,
        counted=_OWN_BYTES,
        messages=2,
        keys="ssddl_jax.baselines.phong_bytes:lwe_keys",
        own=OwnRound(
            order="in turn",
            builder="ssddl_jax.baselines.phong:phong",
            bytes="ssddl_jax.baselines.phong_bytes:lwe",
            work="ssddl_jax.baselines.phong:lwe_work",
        ),
        encrypted=True,
    ),
    Protocol(
        name="phong-paillier",
        source="Phong et al. 2018",
        server="nothing; with one participant, every update",
        participant=_VISITS,
        survives=_LOST,
        note=_DECRYPTED,
        counted=_OWN_BYTES,
        messages=2,
        keys="ssddl_jax.baselines.phong_bytes:paillier_keys",
        own=OwnRound(
            order="in turn",
            builder="ssddl_jax.baselines.phong:phong",
            bytes="ssddl_jax.baselines.phong_bytes:paillier",
            work="ssddl_jax.baselines.phong:paillier_work",
        ),
        encrypted=True,
        missing="ssddl_jax.baselines.paillier:missing",
    ),
    Protocol(
        name="snt",
        source="Phong, Phuong 2019",
        server="nothing; with one participant, its neighbour's update",
        participant="the model as its predecessor left it",
        survives=_LOST,
        note="",
        counted=_OWN_BYTES,
        messages=2,
        keys="ssddl_jax.baselines.traffic:shared_key",
        own=OwnRound(
            order="in turn",
            builder="ssddl_jax.baselines.snt:snt",
            bytes="ssddl_jax.baselines.traffic:whole_model",
            work="ssddl_jax.baselines.snt:work",
        ),
    ),
    Protocol(
        name="central",
        source="SGD on pooled data",
        server="all data",
        participant="nothing",
        survives="none; no participant takes part",
        note="",
        counted=_OWN_BYTES,
        messages=0,
        keys="",
        own=OwnRound(
            order="reference",
            builder="ssddl_jax.baselines.central:central",
            bytes="ssddl_jax.baselines.traffic:nothing",
            work="ssddl_jax.baselines.central:work",
        ),
        padded=True,
        once="ssddl_jax.baselines.central:handed_over",
    ),
    Protocol(
        name="standalone",
        source="each participant alone",
        server="nothing",
        participant="nothing",
        survives="any; nobody needs the others",
        note="",
        counted=_OWN_BYTES,
        messages=0,
        keys="",
        own=OwnRound(
            order="reference",
            builder="ssddl_jax.baselines.standalone:standalone",
            bytes="ssddl_jax.baselines.traffic:nothing",
            work="ssddl_jax.baselines.standalone:work",
        ),
        one_model=False,
        kept="ssddl_jax.baselines.standalone:models_kept",
    ),
)
PROTOCOLS = {protocol.name: protocol for protocol in _ALL}


def protocol_of(config: Any) -> Protocol:
    """The record of a config's protocol."""
    return PROTOCOLS[config.protocol]


def server_learns(config: Any) -> str:
    """What the server learns about the participants under the settings of this config."""
    protocol = protocol_of(config)
    found = resolve(protocol.learns)(config) if protocol.learns else ""
    return str(found or protocol.server)


def notes(config: Any, rounds: int, dimension: int) -> list[str]:
    """What a run's summary must mention about its protocol; `dimension`: of the model."""
    protocol = protocol_of(config)
    more = resolve(protocol.notes)(config, rounds, dimension) if protocol.notes else []
    return [*([protocol.note] if protocol.note else []), *more]


def check(config: Any) -> None:
    """Refuses what the config's protocol cannot do. Raises `ConfigError`."""
    protocol = protocol_of(config)
    by_order = _ORDER_ONLY[protocol.own.order] if protocol.own else ()
    for field, only, why in (*protocol.only, *by_order):
        if getattr(config, field) != only:
            remedy = f"must be {only} with protocol {protocol.name}: {why}"
            raise ConfigError(field, getattr(config, field), remedy)
    if protocol.check:
        resolve(protocol.check)(config)
