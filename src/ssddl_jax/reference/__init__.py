"""The oracle: the protocol, from the updates on, in plain Python integers.

The compiled code must equal it bit for bit. It imports nothing else of the package, and uses NumPy
only to take arrays. Section numbers are those of docs/protocol.md. Symbols: n group size, d
parameters, D = d + 1 values in a message, k neighbours, B blocks. A *slot* is a position in the
group; ids are global. Messages are lists of uint32 words. Arithmetic is on their D values, which
are integers mod 2^32, 2^64 or the prime.

Our readings, where the paper leaves a choice:
- Nonces contain global ids. All share words (pair, Shamir, ideal) use `prg_rounds`.
- A pass of `rotate` has N div n rounds. The other N mod n participants sit out that pass.
- A subnormal coordinate counts as zero, so backends that flush subnormals agree with the others.
- Clipped coordinates are counted over all members that encode, including those that vanish later.
- A member that is both non-finite and drawn to vanish never shared, so it causes no retry.
- In `shamir` the total includes dealers who vanished after sharing. The first t uploads are used.
- A void round returns zeros for uploads, aggregate, digest and total. Nothing of it is used.
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
