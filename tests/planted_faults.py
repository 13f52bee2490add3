"""Faulty sharing schemes for the tests that must detect them, and healthy ones to compare.

Those of docs/design.md, section 8: reused pads; no mask on one edge; float shares in +-100; in an
8-bit ring, a top value that never occurs, and masks from 16-bit seeds, found by trying the seeds.
Each is a builder in the form of the package's, or a way to use one. They exist here only: nothing
in the package imports them, and no config can name them.

`views_of(name)` gives the views of both worlds of the game, which share the messages' sum: in world
1 member 0's update has moved to member 1.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import UInt32

import ssddl_jax as sd
from ssddl_jax.core.arithmetic import field
from ssddl_jax.core.arithmetic.chacha import CHACHA20, blocks
from ssddl_jax.core.arithmetic.encoding import Encoding
from ssddl_jax.core.arithmetic.randomness import next_chain, pair_keys
from ssddl_jax.core.devices import make_mesh
from ssddl_jax.core.sharing.base import Attempt, Messages, Scheme, Sharing, uploads_of
from ssddl_jax.core.sharing.ideal import ideal
from ssddl_jax.core.sharing.pairwise import pairwise
from ssddl_jax.core.sharing.shamir import shamir
from ssddl_jax.privacy.distinguisher import chains, uploads

VIEWS = 20_000  # of each world: as many are held out in all
WORDS = 16
THRESHOLD = 3
BYTE = 0xFF


class Views(NamedTuple):
    """The views of both worlds, u32 [VIEWS, members, W] or [VIEWS, rounds, members, W]."""

    world0: Array
    world1: Array
    modulus: int = 2**32
    free: slice = slice(None)  # members whose words are independent by pairs


def scheme_of(n: int, shares: str = "directed", neighbours: int | None = None, **other) -> Scheme:
    """A small scheme of the package, complete by default."""
    encoding = other.get("encoding", Encoding(1.0, 24))
    return Scheme(
        size=n,
        dimension=WORDS // (encoding.ring_bits // 32) - 1,
        neighbours=neighbours or n - 1,
        threshold=THRESHOLD,
        least_alive=0,
        vanishing=0,
        shares=shares,
        encoding=encoding,
        prg=CHACHA20,
        mesh=make_mesh(1),
    )


def worlds(scheme: Scheme, seed: int = 0) -> tuple[UInt32[Array, "n W"], UInt32[Array, "n W"]]:
    """Messages of one sum: in the second, member 0's update has moved to member 1."""
    bits = scheme.encoding.fraction_bits
    drawn = np.random.default_rng([5, seed]).normal(0, 0.15, (scheme.size, scheme.dimension))
    updates = np.rint(drawn * 2.0**bits) / 2.0**bits
    kind = {"fraction_bits": bits, "ring_bits": scheme.encoding.ring_bits}
    rows = [jnp.asarray(x.astype(np.float32)) for x in (updates, _moved(updates))]
    made = [sd.encode(x, **kind) for x in rows]
    assert np.array_equal(*(scheme.ring.sum(words) for words in made))
    return made[0], made[1]


def _moved(updates: np.ndarray) -> np.ndarray:
    moved = updates.copy()
    moved[1] += moved[0]
    moved[0] = 0
    return moved


# What a slot adds for its edge with another: the package's pair shares, and the coalition's view.


def edge_masks(scheme: Scheme, chain: UInt32[Array, "8"]) -> UInt32[Array, "n n W"]:
    """[i, j]: s_{j->i} - s_{i->j}, zeros on the diagonal; directed, complete."""
    zeros = jnp.zeros((scheme.size, scheme.width), jnp.uint32)
    shares = sd.share(zeros, chain)
    return jnp.swapaxes(shares, 0, 1) - shares


def residuals(
    builder: Callable[[Scheme], Sharing],
    masks: Callable[[Scheme, Array], Array],
    scheme: Scheme,
    messages: UInt32[Array, "n W"],
    chains: UInt32[Array, "count 8"],
) -> UInt32[Array, "count 2 W"]:
    """What server + all but members 0 and 1 are left with: their uploads less all known shares."""
    return uploads(builder, scheme, messages, chains)[:, :2] - _known(masks, scheme, chains)


@partial(jax.jit, static_argnums=(0, 1))
def _known(
    masks: Callable[[Scheme, Array], Array], scheme: Scheme, chains: UInt32[Array, "count 8"]
) -> UInt32[Array, "count 2 W"]:
    """What the colluders know of members 0's and 1's masks."""

    def known(chain: Array) -> Array:
        return jnp.sum(masks(scheme, chain)[:2, 2:], axis=1, dtype=jnp.uint32)

    return lax.map(known, chains, batch_size=200)


# The faults.


def rounds_of(
    builder: Callable[[Scheme], Sharing],
    scheme: Scheme,
    messages: tuple[Array, Array],
    chains: UInt32[Array, "count 8"],
    *,
    reused: bool,
) -> UInt32[Array, "count 2 n W"]:
    """Two rounds' uploads of different messages. Fault: the chain does not move on."""
    later = chains if reused else jax.jit(jax.vmap(next_chain))(chains)
    pairs = zip(messages, (chains, later), strict=True)
    return jnp.stack([uploads(builder, scheme, m, c) for m, c in pairs], axis=1)


def edge_without_mask(scheme: Scheme) -> Sharing:
    """Fault: members 0 and 1 leave out the shares between them."""

    def sent(attempt: Attempt, messages: Array) -> Array:
        zeros = jnp.zeros(scheme.width, jnp.uint32)
        healthy = pairwise(scheme).share(attempt, Messages(zeros, zeros, messages)).each
        masks = edge_masks(scheme, attempt.chain)
        missing = jnp.zeros_like(messages).at[0].set(masks[0, 1]).at[1].set(masks[1, 0])
        return healthy - missing

    return uploads_of(sent, _summed)


def float_shares(scheme: Scheme) -> Sharing:
    """Fault: float32 shares uniform in +-100 are added to float updates; then fixed point.

    Nothing wraps: a float scheme needs room for its shares.
    """
    scale = jnp.float32(2.0**scheme.encoding.fraction_bits)

    def sent(attempt: Attempt, messages: Array) -> Array:
        words = sd.share(jnp.zeros_like(messages), attempt.chain)
        unit = (words >> jnp.uint32(8)).astype(jnp.float32) * jnp.float32(2**-24)
        others = jnp.float32(1) - jnp.eye(scheme.size, dtype=jnp.float32)
        shares = (jnp.float32(200) * unit - jnp.float32(100)) * others[..., None]
        updates = lax.bitcast_convert_type(messages, jnp.int32).astype(jnp.float32) / scale
        masked = updates + jnp.sum(shares, axis=0) - jnp.sum(shares, axis=1)
        return lax.bitcast_convert_type(jnp.rint(masked * scale).astype(jnp.int32), jnp.uint32)

    return uploads_of(sent, _summed)


def expanded(keys: UInt32[Array, "*shape 8"]) -> UInt32[Array, "*shape W"]:
    """One byte of every word of a key's first block."""
    shape = keys.shape[:-1]
    nonce = jnp.zeros((*(1 for _ in shape), 3), jnp.uint32)
    words = blocks(keys, jnp.zeros(shape, jnp.uint32), nonce)
    return jnp.moveaxis(words, 0, -1) & jnp.uint32(BYTE)


def from_seed(seeds: UInt32[Array, " *shape"]) -> UInt32[Array, "*shape W"]:
    """Byte masks of seeds below 2^16."""
    zeros = jnp.zeros_like(seeds)
    return expanded(jnp.stack([seeds, *[zeros] * 7], axis=-1))


def byte_masks(
    scheme: Scheme, chain: UInt32[Array, "8"], *, small_seeds: bool = False
) -> UInt32[Array, "n n W"]:
    """[i, j]: s_{j->i} for j < i, -s_{i->j} for j > i: paired shares of an 8-bit ring, from the
    pair's 256-bit key. Fault: from 16 bits of it.
    """
    ids = jnp.arange(scheme.size, dtype=jnp.uint32)
    square = (scheme.size, scheme.size)
    here, there = jnp.broadcast_to(ids[:, None], square), jnp.broadcast_to(ids[None], square)
    lower, upper = jnp.minimum(here, there), jnp.maximum(here, there)
    keys = pair_keys(chain, jnp.uint32(0), lower, upper)
    words = from_seed(keys[..., 0] & jnp.uint32(0xFFFF)) if small_seeds else expanded(keys)
    signed = jnp.where((there < here)[..., None], words, -words)
    return jnp.where((here == there)[..., None], jnp.uint32(0), signed)


def byte_ring(scheme: Scheme, *, small_seeds: bool = False, modulus: int = 256) -> Sharing:
    """Paired shares in an 8-bit ring. Faults: `small_seeds`; a modulus of 255, so that the top
    value never occurs.
    """

    def sent(attempt: Attempt, messages: Array) -> Array:
        masks = byte_masks(scheme, attempt.chain, small_seeds=small_seeds)
        whole = messages + jnp.sum(masks, axis=1, dtype=jnp.uint32)  # mod 2^32
        return (whole + jnp.uint32(modulus << 16)) % jnp.uint32(modulus)

    return uploads_of(sent, _summed)


byte_ring_small_seeds = partial(byte_ring, small_seeds=True)
byte_ring_without_top = partial(byte_ring, modulus=255)
byte_masks_small_seeds = partial(byte_masks, small_seeds=True)


def _summed(attempt: Attempt, sent: Array) -> Array:
    return jnp.sum(sent, axis=0, dtype=jnp.uint32)


@jax.jit
def found_by_seeds(views: UInt32[Array, "count 2 W"]) -> UInt32[Array, "count 2 W"]:
    """The messages of members 0 and 1 by trying all 65,536 seeds of the one mask between them.

    The seed whose mask leaves the smallest signed bytes is taken: updates are small.
    """
    masks = from_seed(jnp.arange(1 << 16, dtype=jnp.uint32)).astype(jnp.uint8).T

    def best(view: UInt32[Array, "2 W"]) -> UInt32[Array, "2 W"]:
        first, second = view.astype(jnp.uint8)[..., None]
        left = [jnp.broadcast_to(first, masks.shape) + masks]
        left += [jnp.broadcast_to(second, masks.shape) - masks]
        size = [jnp.minimum(x, -x).astype(jnp.uint16) for x in left]
        seed = jnp.argmin(jnp.sum(size[0] + size[1], axis=0, dtype=jnp.uint16))
        return jnp.stack([x[:, seed] for x in left]).astype(jnp.uint32)

    return lax.map(best, views)


def small_bytes(seed: int = 0) -> tuple[UInt32[Array, "n W"], UInt32[Array, "n W"]]:
    """Worlds of an 8-bit ring, four members, updates in -4..4."""
    updates = np.random.default_rng([6, seed]).integers(-4, 5, (4, WORDS))
    first, second = ((x & BYTE).astype(np.uint32) for x in (updates, _moved(updates)))
    return jnp.asarray(first), jnp.asarray(second)


# Views by name: the package's, and the planted ones.


def _both(see: Callable[[Array, Array], Array], messages: tuple[Array, Array], **more) -> Views:
    """`see(messages, chains)` of both worlds, under chains of their own."""
    pairs = zip(messages, (1, 2), strict=True)
    return Views(*(see(m, chains(seed, VIEWS)) for m, seed in pairs), **more)


def _sent(builder: Callable[[Scheme], Sharing], scheme: Scheme, **more) -> Views:
    return _both(partial(uploads, builder, scheme), worlds(scheme), **more)


def _shamir_shares() -> Views:
    """Of dealer 0 alone, what t - 1 other holders hold."""
    scheme = scheme_of(5)
    dealer = jnp.arange(5, dtype=jnp.int32) == 0

    def see(messages: Array, chains: Array) -> Array:
        return uploads(shamir, scheme, messages, chains, dealer)[:, 1:THRESHOLD]

    return _both(see, worlds(scheme), modulus=field.P)


def _residuals(builder: Callable[[Scheme], Sharing]) -> Views:
    scheme = scheme_of(5)
    see = partial(residuals, builder, edge_masks, scheme)
    return _both(see, worlds(scheme), free=slice(0, 1))


def _two_rounds(reused: bool) -> Views:
    scheme = scheme_of(5)
    pairs = zip(worlds(scheme, 0), worlds(scheme, 1), strict=True)

    def see(messages: tuple[Array, Array], chains: Array) -> Array:
        return rounds_of(pairwise, scheme, messages, chains, reused=reused)

    return _both(see, tuple(pairs))


def _byte_residuals(builder: Callable, masks: Callable) -> Views:
    """In the 8-bit ring, so that one mask is left: server + 2 of 4."""

    def see(messages: Array, chains: Array) -> Array:
        return residuals(builder, masks, scheme_of(4), messages, chains) & jnp.uint32(BYTE)

    return _both(see, small_bytes(), modulus=256, free=slice(0, 1))


def _bytes_sent(builder: Callable) -> Views:
    return _both(partial(uploads, builder, scheme_of(4)), small_bytes(), modulus=256)


HEALTHY: dict[str, Callable[[], Views]] = {
    "directed": lambda: _sent(pairwise, scheme_of(5)),
    "paired": lambda: _sent(pairwise, scheme_of(5, "paired")),
    "directed-ring": lambda: _sent(pairwise, scheme_of(6, neighbours=2)),
    "paired-ring": lambda: _sent(pairwise, scheme_of(6, "paired", 2)),
    "wide": lambda: _sent(pairwise, scheme_of(5, encoding=Encoding(1.0, 24, 64))),
    "ideal": lambda: _sent(ideal, scheme_of(5)),
    "shamir": lambda: _sent(shamir, scheme_of(5), modulus=field.P),
    "shamir-shares": _shamir_shares,
    "residuals": lambda: _residuals(pairwise),
    "two-rounds": lambda: _two_rounds(reused=False),
    "bytes": lambda: _bytes_sent(byte_ring),
    "byte-residuals": lambda: _byte_residuals(byte_ring, byte_masks),
}
FAULTS: dict[str, Callable[[], Views]] = {
    "reused-pads": lambda: _two_rounds(reused=True),
    "edge-without-mask": lambda: _residuals(edge_without_mask),
    "float-shares": lambda: _sent(float_shares, scheme_of(5, encoding=Encoding(1.0, 16))),
    "top-never-occurs": lambda: _bytes_sent(byte_ring_without_top),
    "small-seeds": lambda: _byte_residuals(byte_ring_small_seeds, byte_masks_small_seeds),
}


@cache
def views_of(name: str) -> Views:
    """Views of a healthy or a planted case; made once."""
    return {**HEALTHY, **FAULTS}[name]()
