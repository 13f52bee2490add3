"""The protocol from the updates on, in plain Python integers: the oracle of everything fast.

It imports none of the package's other modules; NumPy appears only where arrays come in. Sections
are those of docs/protocol.md. n group, d parameters, D = d + 1 values of a message, k
neighbours, B blocks; a *slot* is a position in the group, ids are global. Messages are lists of
uint32 words; inside, arithmetic is on their D values, integers mod 2^32, 2^64 or the prime.

Some of our readings in particular:
- Nonces carry global ids; share words of every kind (pair, Shamir, ideal) use `prg_rounds`.
- A pass of `rotate` has N div n rounds; the N mod n left over sit that pass out.
- A subnormal update counts as zero, so that backends which flush subnormals agree with the others.
- Clipped coordinates are counted over all members that encoded, those that vanish later included.
- A member both non-finite and drawn to vanish never shared: it makes no retry.
- Every lost dealer of `shamir` that shared is in the total; the first t uploads are interpolated.
- A void round hands back zeros for uploads, aggregate, digest and total: nothing of it is used.
"""

from ssddl_jax.reference.encoding import decode, encode
from ssddl_jax.reference.graph import neighbours_of
from ssddl_jax.reference.randomness import (
    PRIME,
    batch_order,
    blocks_of,
    chacha_block,
    derive_key,
    field_words,
    initial_chain,
    next_chain,
    public_key,
    rounding_noise,
    seed_key,
    select_group,
    stream,
    vanished_slots,
)
from ssddl_jax.reference.round import Round, run_digest, share_round
from ssddl_jax.reference.settings import Settings
from ssddl_jax.reference.shamir import interpolate_at_zero, shamir_shares

__all__ = [
    "PRIME",
    "Round",
    "Settings",
    "batch_order",
    "blocks_of",
    "chacha_block",
    "decode",
    "derive_key",
    "encode",
    "field_words",
    "initial_chain",
    "interpolate_at_zero",
    "neighbours_of",
    "next_chain",
    "public_key",
    "rounding_noise",
    "run_digest",
    "seed_key",
    "select_group",
    "shamir_shares",
    "share_round",
    "stream",
    "vanished_slots",
]
