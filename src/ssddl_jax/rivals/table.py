"""The protocols whose rounds are not SSDDL's: one line each."""

from collections.abc import Callable

from ssddl_jax.rivals.base import Parts, Rival
from ssddl_jax.rivals.central import central
from ssddl_jax.rivals.dssgd import dssgd
from ssddl_jax.rivals.phong import phong
from ssddl_jax.rivals.snt import snt
from ssddl_jax.rivals.standalone import standalone
from ssddl_jax.round import plain_round


def plain(parts: Parts) -> Rival:
    """The float32 mean of the updates, without sharing."""
    return Rival(plain_round(parts.recipe), parts.recipe.server.init)


RIVALS: dict[str, Callable[[Parts], Rival]] = {
    "plain": plain,
    "central": central,
    "standalone": standalone,
    "dssgd": dssgd,
    "snt": snt,
    "phong-lwe": phong,
    "phong-paillier": phong,
}
