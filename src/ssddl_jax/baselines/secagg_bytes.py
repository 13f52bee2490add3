"""Bits that SecAgg and SecAgg+ send for one member that stays, and for its keys. Free of JAX.

For a group of n, Bonawitz et al. 2017 count 2 n keys, 5 n - 4 shares of 256 bits and the masked
words, to and from the server together: 256 (7 n - 4) + m ceil(log2 R). Shares are sent encrypted
from member to member through the server: once up, once down. A member of SecAgg+ shares with k
partners instead of n - 1, so we replace n by k + 1 for keys and shares; R remains the group's.
"""

from typing import Any, NamedTuple

from ssddl_jax.baselines.traffic import KEY, KeyAgreement
from ssddl_jax.common.errors import ConfigError

SECRET = 256  # bits of a key, and of a share of a secret


class SecAggBits(NamedTuple):
    """One member's bits in a round, without the model that it downloads."""

    shared_up: int  # its two public keys; a share of each secret for every other holder
    shared_down: int  # the others' two keys, and their shares for it
    upload: int  # the masked words, packed
    opened: int  # one share for each member whose shares it holds, itself included

    @property
    def up(self) -> int:
        """To the server."""
        return self.shared_up + self.upload + self.opened

    @property
    def down(self) -> int:
        """From the server."""
        return self.shared_down

    @property
    def peers(self) -> int:
        """The part of `shared_up` that is forwarded to other members."""
        return self.shared_up - 2 * SECRET


def word_bits(members: int, levels: int) -> int:
    """ceil(log2 R), the bits of a packed word.

    A sum of n words with `levels` values each takes R = n (levels - 1) + 1 values.
    """
    return max(1, (members * (levels - 1)).bit_length())


def secagg_bits(holders: int, words: int, levels: int, members: int | None = None) -> SecAggBits:
    """The bits of one member of a group of `members`.

    `holders`: how many members hold its shares, itself included: all in SecAgg, k + 1 in SecAgg+.
    `words`: words of a message, with `levels` values each.
    """
    others = holders - 1
    return SecAggBits(
        shared_up=SECRET * (2 + 2 * others),
        shared_down=SECRET * (2 * others + 2 * others),
        upload=words * word_bits(members or holders, levels),
        opened=SECRET * holders,
    )


def expansion(bits: SecAggBits, words: int, input_bits: int) -> float:
    """Bits sent and received, divided by the bits of the input."""
    return (bits.up + bits.down) / (words * input_bits)


def keys(config: Any, dimension: int, neighbours: int, rounds: int) -> KeyAgreement:
    """A member's two public keys up and its partners' down, in every round."""
    return KeyAgreement(2 * KEY, 2 * KEY * neighbours, 1, counted=True)


def check_complete(config: Any) -> None:
    """Raises `ConfigError` for a sparse graph, which SecAgg does not have."""
    if config.neighbours != "complete":
        remedy = "protocol secagg shares with all members; use complete, or protocol secagg+"
        raise ConfigError("neighbours", config.neighbours, remedy)
