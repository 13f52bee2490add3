"""Byte counts that the rivals have in common. Free of JAX.

The formulas come from the papers that the records name; docs/protocol.md, section 8, lists them.
The bits of a message are rounded up to bytes.
"""

from typing import Any, NamedTuple

FLOAT = 32  # bits
KEY = 32  # bytes of a public key, or of a symmetric one


class Moved(NamedTuple):
    """Bytes of one member's round, to and from the server."""

    up: int
    down: int


class KeyAgreement(NamedTuple):
    """One participant's bytes over the lifetime of its keys."""

    up: int
    down: int
    rounds: int  # how many rounds the keys are used for
    counted: bool  # whether the bytes of each round already include them

    def a_round(self, participants: int, members: int) -> float:
        """Bytes per member and round, up plus down.

        A run's set-up by all participants is spread over the members of its rounds.
        """
        if self.counted:
            return float(self.up + self.down)  # only members of the round agree on keys
        return (self.up + self.down) * participants / (members * self.rounds)

    def as_json(self, participants: int, members: int) -> dict[str, Any]:
        """All fields, and `bytes_a_round`."""
        return {**self._asdict(), "bytes_a_round": self.a_round(participants, members)}


def to_bytes(bits: int) -> int:
    """Bits, rounded up to bytes."""
    return -(-bits // 8)


def nothing(config: Any, dimension: int) -> Moved:
    """A round in which nobody sends anything."""
    return Moved(0, 0)


def whole_model(config: Any, dimension: int) -> Moved:
    """The model down, and as many float32 values up."""
    model = to_bytes(FLOAT * dimension)
    return Moved(model, model)


def shared_key(config: Any, dimension: int, neighbours: int, rounds: int) -> KeyAgreement:
    """One symmetric key for the whole run, which all participants share."""
    return KeyAgreement(0, KEY, rounds, counted=False)
