"""The sharing layer on its own, for stacked pytrees: every leaf is [n, ...], one row a participant.

    messages = encode(updates)                  u32 [n, W]
    shares = share(messages, chain)             u32 [n, n, W], dealer by holder, small n
    uploads = mask(messages, chain)             u32 [n, W], the uploads
    total = aggregate(uploads)                  u32 [W]
    mean = decode(total, like=updates)          the mean update, shaped as one participant's

Pytrees are ravelled inside, and everything is jittable. docs/protocol.md, sections 3 to 5, defines
every result to the bit. `shamir_share` and `shamir_reconstruct` are t-of-n over any `Field`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh
from jaxtyping import Float32, UInt32

from ssddl_jax.core.arithmetic import field as fields
from ssddl_jax.core.arithmetic.chacha import CHACHA20, PRG
from ssddl_jax.core.arithmetic.encoding import Encoding, decode_words, encode_rows
from ssddl_jax.core.arithmetic.field import MERSENNE31, Field
from ssddl_jax.core.arithmetic.randomness import initial_chain, pair_keys
from ssddl_jax.core.arithmetic.rings import RINGS
from ssddl_jax.core.devices import AXIS, make_mesh, own_schedule, platform_of
from ssddl_jax.core.sharing.base import Attempt, Messages, Scheme
from ssddl_jax.core.sharing.pairwise import pairwise
from ssddl_jax.core.sharing.schedules.kernels import lanes_of, written

Stacked = Any  # a pytree whose leaves are [n, ...]


def ravel(updates: Stacked) -> Float32[Array, "n d"]:
    """Rows f32 [n, d] in `ravel_pytree` order. Raises `ValueError` if leaves disagree about n."""
    leaves = jax.tree.leaves(updates)
    sizes = {leaf.shape[0] if leaf.ndim else None for leaf in leaves}
    if len(sizes) != 1 or None in sizes:
        raise ValueError(f"Argument 'updates' must have leaves [n, ...] of one n, not {sizes}.")
    return jnp.concatenate([leaf.reshape(leaf.shape[0], -1) for leaf in leaves], axis=1)


def encode(
    updates: Stacked,
    *,
    clip: float = 1.0,
    fraction_bits: int = 24,
    weights: UInt32[Array, " n"] | None = None,
    ring_bits: int = 32,
) -> UInt32[Array, "n W"]:
    """Encodes n updates as messages: clipped, fixed point, weighted, the weight word last.

    A row with a non-finite coordinate becomes zeros. Whether a sum of n messages could wrap is not
    checked here; `core/arithmetic/headroom.py` does. Source: docs/protocol.md, section 3.2.
    """
    rows = ravel(updates)
    weights = jnp.ones(rows.shape[0], jnp.uint32) if weights is None else weights
    return encode_rows(rows, weights, Encoding(clip, fraction_bits, ring_bits)).words


def share(
    messages: UInt32[Array, "n W"],
    chain: UInt32[Array, "8"] | None = None,
    *,
    ids: UInt32[Array, " n"] | None = None,
    attempt: int = 0,
    prg: PRG = CHACHA20,
    ring_bits: int = 32,
) -> UInt32[Array, "n n W"]:
    """Splits each message n-of-n on the complete graph: shares u32 [dealer, holder, W].

    Off the diagonal a share is PRG(K_{i->j}). The diagonal makes each dealer's shares sum to its
    message. Takes n^2 W words, so it is for small n.
    """
    n, width = messages.shape
    chain = initial_chain(0) if chain is None else chain
    ids = jnp.arange(n, dtype=jnp.uint32) if ids is None else ids.astype(jnp.uint32)
    shape = (n, n)
    dealers, holders = jnp.broadcast_to(ids[:, None], shape), jnp.broadcast_to(ids[None], shape)
    keys = pair_keys(chain, jnp.uint32(attempt), dealers, holders)
    others = jnp.uint32(1) - jnp.eye(n, dtype=jnp.uint32)
    columns = [keys[..., i] for i in range(8)]
    lanes = written(prg, columns, others, jnp.uint32(0), -(-width // 16))
    drawn = jnp.moveaxis(lanes_of(lanes), 0, 2).reshape(n, n, -1)[..., :width]
    ring = RINGS[ring_bits]
    kept = ring.add(messages, ring.negate(jax.vmap(ring.sum)(drawn)))
    return jnp.where(jnp.eye(n, dtype=bool)[..., None], kept[:, None], drawn)


def reconstruct(shares: UInt32[Array, "n n W"], *, ring_bits: int = 32) -> UInt32[Array, "n W"]:
    """Recovers the messages u32 [n, W]. Needs all shares of a dealer: any fewer reveal nothing."""
    return jax.vmap(RINGS[ring_bits].sum)(shares)


def hold(shares: UInt32[Array, "n n W"], *, ring_bits: int = 32) -> UInt32[Array, "n W"]:
    """The uploads u32 [n, W]: each holder adds up its shares. Equal to those of `mask`."""
    return jax.vmap(RINGS[ring_bits].sum)(jnp.swapaxes(shares, 0, 1))


def mask(
    messages: UInt32[Array, "n W"],
    chain: UInt32[Array, "8"] | None = None,
    *,
    ids: UInt32[Array, " n"] | None = None,
    attempt: int = 0,
    shares: str = "directed",
    prg: PRG = CHACHA20,
    ring_bits: int = 32,
) -> UInt32[Array, "n W"]:
    """The uploads a_i = x_i + sum_j (s_{j->i} - s_{i->j}), u32 [n, W], on the complete graph.

    Uses the round's own kernels, and never holds all shares at once.
    """
    n, width = messages.shape
    chain = initial_chain(0) if chain is None else chain
    ids = jnp.arange(n, dtype=jnp.uint32) if ids is None else ids.astype(jnp.uint32)
    ring, mesh = RINGS[ring_bits], _mesh_of(messages)
    scheme = Scheme(
        size=n,
        dimension=width // ring.limbs - 1,
        neighbours=n - 1,
        threshold=2,
        least_alive=0,
        vanishing=0,
        shares=shares,
        encoding=Encoding(1.0, 0, ring_bits),
        prg=prg,
        mesh=mesh,
        schedule=own_schedule(platform_of(mesh)),
    )
    everybody = jnp.ones(n, bool)
    part = Attempt(
        chain=chain,
        public=chain,
        round=jnp.uint32(0),
        number=jnp.uint32(attempt),
        ids=ids,
        members=everybody,
        alive=everybody,
    )
    sums = Messages(ring.sum(messages), jnp.zeros(width, jnp.uint32), messages)
    sent = pairwise(scheme).share(part, sums).each
    assert sent is not None
    return sent


def _mesh_of(rows: Array) -> Mesh:
    """A mesh of the device that holds the rows."""
    if not isinstance(rows, jax.Array) or isinstance(rows, jax.core.Tracer):
        return make_mesh(1)
    return Mesh(np.array(list(rows.devices())[:1]), (AXIS,))


def aggregate(uploads: UInt32[Array, "n W"], *, ring_bits: int = 32) -> UInt32[Array, " W"]:
    """The sum that the server forms, u32 [W]."""
    return RINGS[ring_bits].sum(uploads)


def decode(
    total: UInt32[Array, " W"],
    like: Stacked,
    *,
    fraction_bits: int = 24,
    ring_bits: int = 32,
) -> Any:
    """Decodes the (weighted) mean update: a float32 pytree with the shapes of one row of `like`.

    Raises `ValueError` if `like` has another number of coordinates.
    """
    mean, _ = decode_words(total, Encoding(1.0, fraction_bits, ring_bits))
    leaves, structure = jax.tree.flatten(like)
    sizes = np.cumsum([int(np.prod(leaf.shape[1:])) for leaf in leaves])
    if mean.shape[0] != sizes[-1]:
        raise ValueError(f"Argument 'like' has {sizes[-1]} coordinates a row, not {mean.shape[0]}.")
    parts = jnp.split(mean, sizes[:-1])
    shaped = [part.reshape(leaf.shape[1:]) for part, leaf in zip(parts, leaves, strict=True)]
    return jax.tree.unflatten(structure, shaped)


def shamir_share(
    secret: UInt32[Array, " W"],
    coefficients: UInt32[Array, "t-1 W"],
    points: UInt32[Array, " n"],
    *,
    field: Field = MERSENNE31,
) -> UInt32[Array, "n W"]:
    """Shamir shares u32 [n, W]: f = secret + sum_l coefficients[l - 1] x^l at every point.

    If the coefficients are uniform, any t - 1 shares are independent of the secret. Raises
    `ValueError` for points that are zero or equal (checked only for concrete arrays).
    """
    _check_points(points, field)
    value = jnp.zeros((points.shape[0], secret.shape[0]), jnp.uint32)
    for coefficient in coefficients[::-1]:
        value = fields.horner(field, value, coefficient[None], points[:, None])
    return field.add(value, jnp.broadcast_to(secret[None], value.shape))


def shamir_reconstruct(
    shares: UInt32[Array, "m W"],
    points: UInt32[Array, " m"],
    threshold: int,
    *,
    field: Field = MERSENNE31,
) -> UInt32[Array, " W"]:
    """Recovers the secret u32 [W] from the first `threshold` of m shares at their points.

    Raises `ValueError` for too few shares, for lengths that differ, and for points that are zero or
    equal.
    """
    if shares.shape[0] != points.shape[0]:
        raise ValueError(
            f"Argument 'points' must have one entry a share: {shares.shape[0]}, "
            f"not {points.shape[0]}."
        )
    if not 1 <= threshold <= shares.shape[0]:
        raise ValueError(
            f"Argument 'shares' must hold at least threshold = {threshold}, not {shares.shape[0]}."
        )
    _check_points(points, field)
    weights = fields.lagrange_at_zero(field, points[:threshold])
    return fields.combine(field, weights, shares[:threshold])


def _check_points(points: UInt32[Array, " n"], field: Field) -> None:
    if isinstance(points, jax.core.Tracer):
        return
    values = np.asarray(points)
    if np.any(values == 0) or np.any(values >= field.prime):
        raise ValueError(f"Argument 'points' must lie in 1..{field.prime - 1}, not {values}.")
    if len(np.unique(values)) != len(values):
        raise ValueError(f"Argument 'points' must be distinct, not {values}.")
