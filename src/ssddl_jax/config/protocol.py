"""What a protocol is to everybody who does not play it: one record, `Protocol`.

A function stands here as "module:name" and is imported when it is needed. Free of NumPy and JAX.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple


class Only(NamedTuple):
    """A field of which a protocol takes one value."""

    field: str
    value: Any
    why: str


@dataclass(frozen=True, kw_only=True)
class OwnRound:
    """A round that is not SSDDL's."""

    order: Literal["side by side", "in turn", "reference"]  # reference: nobody exchanges anything
    builder: str  # Parts -> Rival, see `baselines/base.py`
    bytes: str  # (config, dimension) -> Moved, of one member that takes part in a round
    work: str  # (config, dimension, train_seconds) -> Work, see `baselines/work.py`


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """All that there is to say of a protocol. What has no default must be given for each."""

    name: str
    source: str  # where it was published
    server: str  # what the server learns of the participants
    participant: str  # what a participant learns of the others
    survives: str  # which dropouts
    note: str  # what the summary of a run must not leave unsaid; "" for nothing
    counted: str  # what the bytes of a run are of
    messages: int | str  # of a member's round, one after another; or (config, lost, void) -> int
    keys: str  # (config, dimension, neighbours, rounds) -> KeyAgreement; "" if there are no keys
    own: OwnRound | None  # None: SSDDL's round, a secure sum by its dropout rule

    # Secure sums
    rule: str = ""  # a dropout rule of its own; "" for the config's
    sparse: bool = False  # the sharing graph is sparse unless the config gives a number
    pair_shares: bool = False  # pairs share words as SSDDL does: by any engine, rule and transport

    # Rounds of their own
    quorum: bool = False  # void if more vanish than max_dropout; else if nobody is left
    encrypted: bool = False  # sums are followed as integers of 64 bits, which a plaintext holds
    padded: bool = False  # minibatches are padded even where all participants have as many rows
    one_model: bool = True  # else everybody keeps a model, and none of them is the run's
    kept: str = ""  # (config) -> int, models carried from round to round besides the server's
    once: str = ""  # (examples, bytes of one) -> bytes that all hand over before the first round

    # What a config may ask of it
    only: tuple[Only, ...] = ()  # besides what `OwnRound.order` leaves no choice of
    check: str = ""  # (config), raises `ConfigError` for what the protocol has no room for
    explained: bool = False  # `--explain` can show a round of it

    # How it is shown
    learns: str = ""  # (config) -> what the server learns; "" for `server`
    notes: str = ""  # (config, rounds, dimension) -> more notes
    title: str = ""  # of a run's summary; "" for its name
    sentence: str = "protocol {name}"  # participants train a model "through ..."; has {partners}
    exposes: str = ""  # the first sentence of what a run tolerates; "" for who learns what
    panel: str = "ssddl_jax.report.privacy:rival"  # (run) -> the report's section on privacy

    # `compare`
    variant: str = ""  # the field that VARIANT of a row NAME:VARIANT sets
    rows: tuple[str, ...] = ("",)  # variants that are shown by default; "" is the config's own
    missing: str = ""  # () -> why its work cannot be measured here, or None

    @property
    def secure(self) -> bool:
        """Whether the server gets nothing but a sum of encoded updates."""
        return self.own is None

    @property
    def in_turn(self) -> bool:
        """Whether members train one after another, each from what the last one left."""
        return self.own is not None and self.own.order == "in turn"

    @property
    def reference(self) -> bool:
        """Whether it is there to compare with only: nobody exchanges anything, nobody vanishes."""
        return self.own is not None and self.own.order == "reference"

    @property
    def one_by_one(self) -> bool:
        """Whether nobody trains beside another."""
        return self.in_turn or self.reference
