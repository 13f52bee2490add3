"""The records of a round: its static recipe, the state it carries on, and what it returns."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import optax
from jax import Array
from jaxtyping import Bool, Float32, Int32, UInt32

from ssddl_jax.core.learning.local_training import DrawnFirst
from ssddl_jax.core.learning.models import Model, Params
from ssddl_jax.core.learning.outcomes import Measure
from ssddl_jax.core.sharing.base import Scheme


class Recipe(NamedTuple):
    """The static choices of a round, except the sharing scheme's functions."""

    scheme: Scheme
    model: Model
    train: DrawnFirst
    server: optax.GradientTransformation
    participants: int
    selection: str
    weighted: bool
    weight_max: int
    stochastic: bool
    tile_size: int
    precision: str  # of matrix products
    dropouts: Any  # None: at the rate; or those scheduled, (rounds i32 [m], ids i32 [m])
    measures: Mapping[str, Measure]  # optional metrics of each member's clipped update


class State(NamedTuple):
    """What a run carries from one round to the next."""

    params: Params
    server: Any  # server optimizer state
    chain: UInt32[Array, "8"]  # S_r, the key-chain state; the only secret
    public: UInt32[Array, "8"]  # R, the key of public randomness; the same in every round
    round: UInt32[Array, ""]


class Group(NamedTuple):
    """The group of a round: slot s is participant ids[s]. `vanished` slots drop out."""

    ids: Int32[Array, " n"]
    vanished: Bool[Array, " n"]


class MemberRows(NamedTuple):
    """The rows of every slot, kept only if a scheme or a transcript needs them."""

    updates: Float32[Array, "n d"] | None
    encoded: UInt32[Array, "n W"] | None
    uploads: UInt32[Array, "n W"] | None = None  # set by ParaShare


class Info(NamedTuple):
    """Diagnostics of a round. The next round does not depend on them."""

    group: Int32[Array, " n"]
    alive: Bool[Array, " n"]
    members: Bool[Array, " n"]  # who dealt shares in the final attempt
    attempt: UInt32[Array, ""]
    void: Bool[Array, ""]
    exact: Bool[Array, ""]  # the aggregate equals the sum of its encoded updates, word for word
    finite: Bool[Array, " n"]
    clipped: UInt32[Array, " n"]  # coordinates that the clip changed
    loss: Float32[Array, " n"]  # mean training loss
    aggregate: Array  # u32 [W]; plain: f32 [d], the mean
    digest: UInt32[Array, " W"]  # of the uploads; plain: empty
    opened: UInt32[Array, ""]  # pair keys, or shares of secrets, opened to the server
    sampled: UInt32[Array, "K W"] | None = None  # the uploads of `Scheme.sampled`
    diagnostics: Mapping[str, Float32[Array, " n"]] = {}  # optional metrics, if finite
