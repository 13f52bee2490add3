"""Shamir's t-of-n vector sharing over the field (docs/protocol.md, section 5).

Dealer i's polynomial f_i takes its coefficients from the PRG, and f_i(0) is the signed message
word. Slot j holds f_i(j + 1) of every dealer i and uploads their sum. That sum is F(j + 1), where
F = sum_i f_i has the summed coefficients. So a round takes n (t - 1) W PRG words, then evaluates F
once for each upload. The server interpolates F(0) from t uploads. F(0) includes dealers who
vanished after sharing.
"""

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import UInt32

from ssddl_jax.core.arithmetic import field
from ssddl_jax.core.arithmetic.field import MERSENNE31
from ssddl_jax.core.arithmetic.randomness import coefficient_keys
from ssddl_jax.core.exchange import rows_apart
from ssddl_jax.core.sharing.base import Attempt, Messages, Scheme, Sharing, Uploads, slot_factors
from ssddl_jax.core.sharing.schedules.choice import schedule_of
from ssddl_jax.core.sharing.schedules.kernels import LANES
from ssddl_jax.core.tiling import scan_tiles


def chunking(scheme: Scheme) -> tuple[int, int]:
    """(chunks of a message, blocks in a chunk). The devices divide up the chunks."""
    devices = scheme.mesh.size
    most = schedule_of(scheme).coefficient_blocks(scheme)
    chunk = max(
        2, min(most, -(-scheme.num_blocks // devices))
    )  # with 1 block XLA compiles for minutes
    chunks = -(-scheme.num_blocks // (chunk * devices)) * devices
    return chunks, chunk


def words_made(scheme: Scheme) -> int:
    """PRG words evaluated for the dealers' coefficients, 16 for each block, padding included."""
    chunks, chunk = chunking(scheme)
    dealers = -(-scheme.size // LANES) * LANES
    return 16 * chunks * chunk * dealers * (scheme.threshold - 1)


def shamir(scheme: Scheme) -> Sharing:
    """The `Sharing` of rule shamir. The aggregate contains everyone who dealt shares."""
    size, threshold = scheme.size, scheme.threshold
    chunks, chunk = chunking(scheme)
    padded, coefficients_of = chunks * chunk, schedule_of(scheme).coefficients

    def share(attempt: Attempt, messages: Messages) -> Uploads:
        everybody = jnp.arange(size, dtype=jnp.int32)
        points = everybody.astype(jnp.uint32) + jnp.uint32(1)
        opening = field.first_true(attempt.alive, threshold)
        enough = jnp.sum(attempt.alive, dtype=jnp.int32) >= threshold
        sharers = jnp.sum(attempt.members, dtype=jnp.int32)
        opening = jnp.where(enough, opening, jnp.arange(threshold, dtype=jnp.int32))
        weights = field.lagrange_at_zero(MERSENNE31, points[opening])
        factors = slot_factors(everybody, attempt.alive)
        constant = field.from_signed(messages.total)
        lanes = jnp.pad(constant, (0, 16 * scheme.num_blocks - scheme.width))
        lanes = lanes.reshape(16, scheme.num_blocks)
        lanes = jnp.pad(lanes, ((0, 0), (0, padded - scheme.num_blocks)))
        pieces = jnp.moveaxis(lanes.reshape(16, chunks, chunk), 1, 0)
        keep = messages.each is not None

        def body(
            shared: tuple[Attempt, Array, Array, Array],
            carry: None,
            piece: tuple[Array, UInt32[Array, "16 c"]],
        ) -> tuple[None, tuple[Array, Array, Array | None]]:
            attempt, opening, weights, factors = shared
            first, constant = piece

            def lower(value: Array, degree: Array) -> tuple[Array, None]:
                """One step of Horner's rule at every slot's point."""
                degrees = jnp.full(size, degree, jnp.uint32)
                keys = coefficient_keys(attempt.chain, attempt.number, attempt.ids, degrees)
                coefficient = coefficients_of(scheme, keys, attempt.members, first, chunk)
                at = points[:, None, None]
                return field.horner(MERSENNE31, value, coefficient[None], at), None

            degrees = jnp.arange(threshold - 1, 0, -1, dtype=jnp.uint32)
            start = jnp.zeros((size, 16, chunk), jnp.uint32)
            value, _ = lax.scan(lower, start, degrees)
            sent = MERSENNE31.add(value, jnp.broadcast_to(constant[None], value.shape))
            digest = jnp.sum(sent * factors[:, None, None], axis=0, dtype=jnp.uint32)

            total = field.combine(MERSENNE31, weights, sent[opening])
            return None, (total, digest, sent if keep else None)

        firsts = jnp.arange(chunks, dtype=jnp.uint32) * jnp.uint32(chunk)
        _, (totals, digests, sents) = scan_tiles(
            scheme.mesh,
            body,
            rows_apart(),
            (attempt, opening, weights, factors),
            None,
            (firsts, pieces),
        )

        def whole(parts: UInt32[Array, "*lead 16 c"]) -> UInt32[Array, "*lead W"]:
            """Joins chunks [chunks, ..., 16, c] into messages [..., W]."""
            joined = jnp.moveaxis(parts, 0, -2)
            joined = joined.reshape(*joined.shape[:-2], padded)[..., : scheme.num_blocks]
            return joined.reshape(*joined.shape[:-2], -1)[..., : scheme.width]

        each = None
        if sents is not None:
            each = jnp.where(attempt.alive[:, None], whole(sents), jnp.uint32(0))
        aggregate = field.to_signed(whole(totals))
        valid = enough & (sharers >= max(scheme.least_summed, threshold))
        return Uploads(aggregate, whole(digests), each, jnp.uint32(0), valid)

    return Sharing(share, holds_sharers=True, uses_digest=False)
