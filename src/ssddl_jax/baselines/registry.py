"""The protocols whose rounds are not SSDDL's: one line each."""

from collections.abc import Callable

from ssddl_jax.baselines.base import Parts, Rival
from ssddl_jax.baselines.central import central
from ssddl_jax.baselines.dssgd import dssgd
from ssddl_jax.baselines.phong import phong
from ssddl_jax.baselines.plain import plain
from ssddl_jax.baselines.snt import snt
from ssddl_jax.baselines.standalone import standalone

RIVALS: dict[str, Callable[[Parts], Rival]] = {
    "plain": plain,
    "central": central,
    "standalone": standalone,
    "dssgd": dssgd,
    "snt": snt,
    "phong-lwe": phong,
    "phong-paillier": phong,
}
