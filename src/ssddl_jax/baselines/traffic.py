"""What all rivals count bytes with, and what several of them send. Free of JAX.

Sources of the formulas: the papers that the records name, as docs/protocol.md, section 8 has them.
Bits of a message are rounded up to bytes.
"""

from typing import Any, NamedTuple

FLOAT = 32  # bits
KEY = 32  # bytes of a public key, or of a symmetric one


class Moved(NamedTuple):
    """Bytes of one member's round, to and from the server."""

    up: int
    down: int


class KeyAgreement(NamedTuple):
    """One participant's bytes in the life of its keys."""

    up: int
    down: int
    rounds: int  # that the keys live
    counted: bool  # whether the bytes of every round hold them

    def a_round(self, participants: int, members: int) -> float:
        """Bytes, up and down, of a member and round: a run's set-up spread over those who take
        part in its rounds.
        """
        if self.rounds == 1:
            return float(self.up + self.down)  # of those who take part only
        return (self.up + self.down) * participants / (members * self.rounds)

    def as_json(self, participants: int, members: int) -> dict[str, Any]:
        """All of it, with `bytes_a_round`."""
        return {**self._asdict(), "bytes_a_round": self.a_round(participants, members)}


def to_bytes(bits: int) -> int:
    """Whole bytes."""
    return -(-bits // 8)


def nothing(config: Any, dimension: int) -> Moved:
    """Of a round in which nobody sends anything."""
    return Moved(0, 0)


def whole_model(config: Any, dimension: int) -> Moved:
    """The model down, and as many floats up."""
    model = to_bytes(FLOAT * dimension)
    return Moved(model, model)


def shared_key(config: Any, dimension: int, neighbours: int, rounds: int) -> KeyAgreement:
    """One symmetric key for the whole run, which all participants share."""
    return KeyAgreement(0, KEY, rounds, counted=False)
