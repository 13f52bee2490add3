"""Bits that SecAgg and SecAgg+ move for one member that stays, and its keys. Free of JAX.

Bonawitz et al. 2017 count, for a group of n, 2 n keys and 5 n - 4 shares of 256 bits and the masked
words, to and from the server together: 256 (7 n - 4) + m ceil(log2 R). Shares travel between
members, encrypted, through the server: up once, down once. SecAgg+ shares with k partners instead
of n - 1, so k + 1 stands for n in keys and shares (ours); R is the group's all the same.
"""

from typing import Any, NamedTuple

from ssddl_jax.baselines.traffic import KEY, KeyAgreement
from ssddl_jax.common.errors import ConfigError

SECRET = 256  # bits of a key, and of a share of a secret


class SecAggBits(NamedTuple):
    """One member's bits of a round, besides the model that it is sent."""

    shared_up: int  # its two public keys; a share of each secret for every other holder
    shared_down: int  # the others' two keys, and their shares for it
    upload: int  # the masked words, packed
    opened: int  # one share of every member that it holds shares of, itself included

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
        """What of `shared_up` goes on to other members."""
        return self.shared_up - 2 * SECRET


def word_bits(members: int, levels: int) -> int:
    """ceil(log2 R): what a packed word takes. R = n (levels - 1) + 1 values of a sum of n words
    that take `levels` values each.
    """
    return max(1, (members * (levels - 1)).bit_length())


def secagg_bits(holders: int, words: int, levels: int, members: int | None = None) -> SecAggBits:
    """For a group of `members`, each with `holders` of its shares, itself included: SecAgg all of
    them, SecAgg+ k + 1. `words` of a message, of `levels` values each.
    """
    others = holders - 1
    return SecAggBits(
        shared_up=SECRET * (2 + 2 * others),
        shared_down=SECRET * (2 * others + 2 * others),
        upload=words * word_bits(members or holders, levels),
        opened=SECRET * holders,
    )


def expansion(bits: SecAggBits, words: int, input_bits: int) -> float:
    """Bits moved over bits of the input."""
    return (bits.up + bits.down) / (words * input_bits)


def keys(config: Any, dimension: int, neighbours: int, rounds: int) -> KeyAgreement:
    """A member's two, and its partners', anew in each round."""
    return KeyAgreement(2 * KEY, 2 * KEY * neighbours, 1, counted=True)


def check_complete(config: Any) -> None:
    """Refuses a sparse graph for SecAgg. Raises `ConfigError`."""
    if config.neighbours != "complete":
        remedy = "protocol secagg shares with everybody; use complete, or protocol secagg+"
        raise ConfigError("neighbours", config.neighbours, remedy)
