"""`Protocol`: one record with everything that the rest of the package needs to know of a protocol.

A record names functions as "module:name"; they are imported when needed. Imports no NumPy or JAX.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple


class Only(NamedTuple):
    """A config field for which a protocol accepts one value only."""

    field: str
    value: Any
    why: str


@dataclass(frozen=True, kw_only=True)
class OwnRound:
    """The round of a protocol that does not use SSDDL's."""

    order: Literal["side by side", "in turn", "reference"]  # reference: nobody exchanges anything
    builder: str  # Parts -> Rival, see `baselines/base.py`
    bytes: str  # (config, dimension) -> Moved, for one member and round
    work: str  # (config, dimension, train_seconds) -> Work, see `baselines/work.py`


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The facts of one protocol. Every record must give the fields that have no default."""

    name: str
    source: str  # where it was published
    server: str  # what the server learns about the participants
    participant: str  # what a participant learns about the others
    survives: str  # which dropouts it survives
    note: str  # what the summary of a run must mention; "" for nothing
    counted: str  # what the bytes of a run include
    messages: int | str  # sequential messages of a member's round; or (config, lost, void) -> int
    keys: str  # (config, dimension, neighbours, rounds) -> KeyAgreement; "" if there are no keys
    own: OwnRound | None  # None: SSDDL's round, a secure sum by its dropout rule

    # Secure sums
    rule: str = ""  # the protocol's own dropout rule; "" for the config's
    sparse: bool = False  # the sharing graph is sparse unless the config gives a number
    pair_shares: bool = False  # pairs share words as in SSDDL, with any engine, rule and transport

    # Protocols with their own round
    quorum: bool = False  # void if more vanish than max_dropout; else only if nobody is left
    encrypted: bool = False  # the round computes sums in 64-bit integers, as a plaintext holds them
    padded: bool = False  # minibatches are padded even if all participants have equally many rows
    one_model: bool = True  # False: every participant keeps its own model; the run has none
    kept: str = ""  # (config) -> int, models kept from round to round, the server's not counted
    once: str = ""  # (examples, bytes of one) -> bytes that all hand over before the first round

    # What a config may ask of it
    only: tuple[Only, ...] = ()  # in addition to what `OwnRound.order` fixes
    check: str = ""  # (config), raises `ConfigError` for what the protocol cannot do
    explained: bool = False  # whether `--explain` can show a round of it

    # How it is shown
    learns: str = ""  # (config) -> what the server learns; "" for `server`
    notes: str = ""  # (config, rounds, dimension) -> more notes
    title: str = ""  # title of a run's summary; "" for the name
    sentence: str = "protocol {name}"  # participants train a model "through ..."; has {partners}
    exposes: str = ""  # the first sentence on what a run tolerates; "" for who learns what
    panel: str = "ssddl_jax.report.privacy:rival"  # (run) -> the report's section on privacy

    # `compare`
    variant: str = ""  # the field that VARIANT of a row NAME:VARIANT sets
    rows: tuple[str, ...] = ("",)  # variants shown by default; "" is the config's own
    missing: str = ""  # () -> why its work cannot be measured on this machine, or None

    @property
    def secure(self) -> bool:
        """Whether the server receives only a sum of encoded updates."""
        return self.own is None

    @property
    def in_turn(self) -> bool:
        """Whether members train one after another, each from the previous one's result."""
        return self.own is not None and self.own.order == "in turn"

    @property
    def reference(self) -> bool:
        """Whether it only serves as a baseline: nobody exchanges anything, nobody vanishes."""
        return self.own is not None and self.own.order == "reference"

    @property
    def one_by_one(self) -> bool:
        """Whether only one member trains at a time."""
        return self.in_turn or self.reference
