"""Sharing schemes: how encoded updates become uploads, and what the server makes of them.

One builder and one line in a table for each; a scheme of your own is a builder passed to
`build_simulation`.
"""

from collections.abc import Callable

from ssddl_jax.core.arithmetic.chacha import rolled
from ssddl_jax.core.sharing.base import Attempt, Messages, Scheme, Sharing, Uploads, uploads_of
from ssddl_jax.core.sharing.ideal import ideal
from ssddl_jax.core.sharing.ideal import keys_made as ideal_keys_made
from ssddl_jax.core.sharing.pairwise import pair_words_made, pairwise
from ssddl_jax.core.sharing.secagg import secagg
from ssddl_jax.core.sharing.secagg import words_made as secagg_words_made
from ssddl_jax.core.sharing.shamir import shamir
from ssddl_jax.core.sharing.shamir import words_made as shamir_words_made

# (engine, dropout rule) -> builder; engine ideal has no pair shares to open.
SHARINGS: dict[tuple[str, str], Callable[[Scheme], Sharing]] = {
    ("pairwise", "retry"): pairwise,
    ("pairwise", "reveal"): pairwise,
    ("pairwise", "shamir"): shamir,
    ("ideal", "retry"): ideal,
    ("pairwise", "secagg"): secagg,
}

__all__ = [
    "SHARINGS",
    "Attempt",
    "Messages",
    "Scheme",
    "Sharing",
    "Uploads",
    "ideal",
    "pairwise",
    "secagg",
    "shamir",
    "suited",
    "uploads_of",
]


_FEW_WORDS = 1 << 15  # of a round: made by a rolled PRG in well under a millisecond


def suited(engine: str, scheme: Scheme) -> Scheme:
    """The scheme with its PRG in the form for its size: the same words, and for a small round most
    of the seconds are the compiler's. The accelerators' kernels compile fast, whatever the size.
    """
    if scheme.schedule != "cpu":
        return scheme
    small = scheme._replace(prg=rolled(scheme.prg))
    return small if words_made(engine, small) <= _FEW_WORDS else scheme


def words_made(engine: str, scheme: Scheme) -> int:
    """16 x the PRG blocks that one round's sharing really evaluates, padding of tiles included.

    A share made once for both its ends counts once. Keys are not counted.
    """
    if engine == "ideal":
        return 16 * scheme.num_blocks * ideal_keys_made(scheme)
    if scheme.dropout_rule == "shamir":
        return shamir_words_made(scheme)
    if scheme.dropout_rule == "secagg":
        return secagg_words_made(scheme)
    return pair_words_made(scheme)
