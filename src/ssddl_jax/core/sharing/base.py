"""The contract of a sharing scheme: its inputs, its outputs and its static parameters.

To add a scheme, write a function that takes a `Scheme` (the static parameters) and returns a
`Sharing`. It is traced into the round's one XLA program, so it needs fixed shapes, and may use no
host calls and no 64-bit types. `uploads_of` builds a `Sharing` from two plain functions that act on
all messages at once.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import Mesh
from jaxtyping import Bool, UInt32

from ssddl_jax.core.arithmetic.chacha import PRG
from ssddl_jax.core.arithmetic.encoding import Encoding
from ssddl_jax.core.arithmetic.rings import RINGS, Ring
from ssddl_jax.core.devices import TRAITS, Traits


class Scheme(NamedTuple):
    """The static parameters of a round's sharing."""

    size: int  # n, the slots of the group
    dimension: int  # d, the coordinates of an update
    neighbours: int  # k; n - 1 for the complete graph
    threshold: int  # t, the shares needed (shamir, secagg)
    least_alive: int  # the fewest uploads that give a sum
    vanishing: int  # the most members that vanish in a round
    shares: str  # directed or paired
    encoding: Encoding
    prg: PRG
    mesh: Mesh
    schedule: str = "cpu"  # cpu, gpu or tpu: the order of steps
    retries: bool = False  # if members vanish, the rest share again in attempt 1
    least_summed: int = 3  # if fewer members share, shamir opens nothing
    opens: str = (
        ""  # what the server is shown: pair "keys" with the vanished, or shares of "secrets"
    )
    sampled: tuple[int, ...] = ()  # slots whose uploads are returned

    @property
    def ring(self) -> Ring:
        """The arithmetic of message words."""
        return RINGS[self.encoding.ring_bits]

    @property
    def traits(self) -> Traits:
        """What the schedule does outside the sharing layer."""
        return TRAITS[self.schedule]

    @property
    def width(self) -> int:
        """W, the words of a message."""
        return self.encoding.words(self.dimension)

    @property
    def num_blocks(self) -> int:
        """B, the PRG blocks of a share."""
        return -(-self.width // 16)

    @property
    def complete(self) -> bool:
        """Whether every member shares with every other."""
        return self.neighbours >= self.size - 1


class Attempt(NamedTuple):
    """One attempt of ParaShare: its members and the source of its keys; slots are 0..n-1."""

    chain: UInt32[Array, "8"]  # S_r
    public: UInt32[Array, "8"]  # R
    round: UInt32[Array, ""]
    number: UInt32[Array, ""]  # a
    ids: UInt32[Array, " n"]  # the participant in each slot
    members: Bool[Array, " n"]  # those who deal shares in this attempt
    alive: Bool[Array, " n"]  # the members who upload


class Again(NamedTuple):
    """Computes messages once more, where they are too many to keep: `rows(shared, slots)`.

    It trains the members of some slots i32 [T] again; their messages u32 [T, W] have the same bits.
    Call it on one device, such as inside `shard_map`.
    """

    rows: Callable[[Any, Array], Array]
    shared: Any  # pytree


class Messages(NamedTuple):
    """The encoded updates: their sums, and the rows themselves if they are kept."""

    total: UInt32[Array, " W"]  # ring sum over the updates that the aggregate must contain
    digest: UInt32[
        Array, " W"
    ]  # sum of (2 s + 1) * message over the alive slots, mod 2^32 in each word
    each: UInt32[Array, "n W"] | None
    again: Again | None = None


class Uploads(NamedTuple):
    """What reached the server: its sums, and the rows themselves if they are kept."""

    aggregate: UInt32[Array, " W"]
    digest: UInt32[Array, " W"]  # the uploads digest: docs/protocol.md, section 5
    each: UInt32[Array, "n W"] | None  # zeros for slots that uploaded nothing
    opened: UInt32[Array, ""]  # pair keys, or shares of secrets, opened to the server
    enough: Bool[Array, ""] | bool = (
        True  # false: the round is void, for too few or unconnected survivors
    )
    sampled: UInt32[Array, "K W"] | None = None  # of `Scheme.sampled`; zeros if nothing was sent


class Sharing(NamedTuple):
    """A sharing scheme.

    `share(attempt, messages) -> Uploads`. `holds_sharers`: the aggregate contains everyone who
    dealt shares (shamir), not only those who uploaded. `keeps`: the scheme needs `messages.each`.
    Without `uses_digest`, `messages.digest` is zeros, which saves some time.
    """

    share: Callable[[Attempt, Messages], Uploads]
    holds_sharers: bool = False
    keeps: bool = False
    uses_digest: bool = True


def slot_factors(slots: Array, counted: Bool[Array, " T"]) -> UInt32[Array, " T"]:
    """The weights of the uploads digest: 2 s + 1 for the counted slots, 0 for the others."""
    factors = jnp.uint32(2) * slots.astype(jnp.uint32) + jnp.uint32(1)
    return jnp.where(counted, factors, jnp.uint32(0))


def weighted_sum(rows: UInt32[Array, "T W"], factors: UInt32[Array, " T"]) -> UInt32[Array, " W"]:
    """Sum of factor * row, mod 2^32 in each word."""
    return jnp.sum(rows * factors[:, None], axis=0, dtype=jnp.uint32)


def join_devices(ring: Ring, total: Array, axis: str) -> Array:
    """Ring sum of the devices' totals u32 [W]; call it inside `shard_map`."""
    return ring.whole(lax.psum(ring.parts(total), axis))


def uploads_of(
    uploads: Callable[[Attempt, Array], Array],
    reconstruct: Callable[[Attempt, Array], Array],
    holds_sharers: bool = False,
) -> Sharing:
    """Builds a `Sharing` from two functions on all rows at once; nothing is streamed.

    `uploads(attempt, messages u32 [n, W]) -> u32 [n, W]` and
    `reconstruct(attempt, uploads u32 [n, W]) -> u32 [W]`.
    """

    def share(attempt: Attempt, messages: Messages) -> Uploads:
        assert messages.each is not None
        sent = uploads(attempt, messages.each)
        sent = jnp.where(attempt.alive[:, None], sent, jnp.uint32(0))
        slots = jnp.arange(sent.shape[0], dtype=jnp.int32)
        digest = weighted_sum(sent, slot_factors(slots, attempt.alive))
        return Uploads(reconstruct(attempt, sent), digest, sent, jnp.uint32(0))

    return Sharing(share, holds_sharers, keeps=True, uses_digest=False)
