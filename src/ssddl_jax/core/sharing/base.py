"""The contract of a sharing scheme, and what every scheme is given and gives back.

To bring a scheme of your own, write a function that takes a `Scheme` (the static facts) and
returns a `Sharing`. It is traced inside the round's one XLA program: fixed shapes, no host calls,
no 64-bit types. `uploads_of` builds a `Sharing` from two plain functions on all messages at once.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import Mesh
from jaxtyping import Bool, UInt32

from ssddl_jax.core.arithmetic.chacha import PRG
from ssddl_jax.core.arithmetic.encoding import Encoding
from ssddl_jax.core.arithmetic.rings import RINGS, Ring


class Scheme(NamedTuple):
    """Static facts of a round's sharing."""

    size: int  # n, slots of the group
    dimension: int  # d
    neighbours: int  # k; n - 1 if complete
    threshold: int  # t, shares needed (shamir, secagg)
    least_alive: int  # uploads needed
    vanishing: int  # the most members that vanish in a round
    shares: str
    encoding: Encoding
    prg: PRG
    mesh: Mesh
    schedule: str = "cpu"  # cpu, gpu or tpu: in which steps words are made
    retries: bool = False  # if members vanish, the others share again in attempt 1
    opens: str = ""  # to the server: pair "keys" with the vanished, or shares of "secrets"

    @property
    def ring(self) -> Ring:
        """Arithmetic of message words."""
        return RINGS[self.encoding.ring_bits]

    @property
    def width(self) -> int:
        """W, words of a message."""
        return self.encoding.words(self.dimension)

    @property
    def num_blocks(self) -> int:
        """B, PRG blocks of a share."""
        return -(-self.width // 16)

    @property
    def complete(self) -> bool:
        """Whether everybody shares with everybody."""
        return self.neighbours >= self.size - 1


class Attempt(NamedTuple):
    """One attempt of ParaShare: who takes part, under which keys. Slots are positions 0..n-1."""

    chain: UInt32[Array, "8"]  # S_r
    public: UInt32[Array, "8"]  # R
    round: UInt32[Array, ""]
    number: UInt32[Array, ""]  # a
    ids: UInt32[Array, " n"]
    members: Bool[Array, " n"]  # deal shares in this attempt
    alive: Bool[Array, " n"]  # members that upload


class Messages(NamedTuple):
    """The encoded updates: their sums, and the rows themselves where they are kept."""

    total: UInt32[Array, " W"]  # ring sum over those whose updates the aggregate must hold
    digest: UInt32[Array, " W"]  # sum of (2 s + 1) * message over the alive slots, mod 2^32 a word
    each: UInt32[Array, "n W"] | None


class Uploads(NamedTuple):
    """What reached the server, summed, and the rows themselves where they are kept."""

    aggregate: UInt32[Array, " W"]
    digest: UInt32[Array, " W"]  # the uploads digest: docs/protocol.md, section 5
    each: UInt32[Array, "n W"] | None  # rows of slots that uploaded nothing are zeros
    opened: UInt32[Array, ""]  # pair keys, or shares of secrets, opened to the server
    enough: Bool[Array, ""] | bool = True  # enough survivors, and connected


class Sharing(NamedTuple):
    """A sharing scheme.

    `share(attempt, messages) -> Uploads`. `holds_sharers`: the aggregate holds everybody who dealt
    shares (shamir), not only those who uploaded. `keeps`: `messages.each` must not be None.
    """

    share: Callable[[Attempt, Messages], Uploads]
    holds_sharers: bool = False
    keeps: bool = False


def slot_factors(slots: Array, counted: Bool[Array, " T"]) -> UInt32[Array, " T"]:
    """2 s + 1 for the counted slots, 0 for the others: the weights of the uploads digest."""
    factors = jnp.uint32(2) * slots.astype(jnp.uint32) + jnp.uint32(1)
    return jnp.where(counted, factors, jnp.uint32(0))


def weighted_sum(rows: UInt32[Array, "T W"], factors: UInt32[Array, " T"]) -> UInt32[Array, " W"]:
    """Sum of factor * row, each 32-bit word by itself."""
    return jnp.sum(rows * factors[:, None], axis=0, dtype=jnp.uint32)


def join_devices(ring: Ring, total: Array, axis: str) -> Array:
    """Ring sum of every device's `total` [W], inside shard_map."""
    if ring.limbs == 1:
        return lax.psum(total, axis)
    return ring.sum(lax.all_gather(total, axis))


def uploads_of(
    uploads: Callable[[Attempt, Array], Array],
    reconstruct: Callable[[Attempt, Array], Array],
    holds_sharers: bool = False,
) -> Sharing:
    """A `Sharing` from `uploads(attempt, messages [n, W]) -> [n, W]` and
    `reconstruct(attempt, uploads [n, W]) -> [W]`; all rows are kept, nothing is streamed.
    """

    def share(attempt: Attempt, messages: Messages) -> Uploads:
        assert messages.each is not None
        sent = uploads(attempt, messages.each)
        sent = jnp.where(attempt.alive[:, None], sent, jnp.uint32(0))
        slots = jnp.arange(sent.shape[0], dtype=jnp.int32)
        digest = weighted_sum(sent, slot_factors(slots, attempt.alive))
        return Uploads(reconstruct(attempt, sent), digest, sent, jnp.uint32(0))

    return Sharing(share, holds_sharers, keeps=True)
