"""Removes the pads shared with vanished members, which the server recomputes from opened keys."""

from typing import Any

import jax.numpy as jnp
from jax import Array
from jaxtyping import UInt32

from ssddl_jax.core.devices import AXIS
from ssddl_jax.core.exchange import rows_apart
from ssddl_jax.core.sharing import graphs
from ssddl_jax.core.sharing.base import Attempt, Scheme, join_devices
from ssddl_jax.core.sharing.partners import KeysOf, partners_of
from ssddl_jax.core.sharing.schedules.choice import schedule_of
from ssddl_jax.core.tiling import into_tiles, scan_tiles


def pads_to_remove(
    scheme: Scheme, attempt: Attempt, graph: graphs.RingGraph | None, source: Any, keys_of: KeysOf
) -> tuple[UInt32[Array, " W"], UInt32[Array, ""]]:
    """The pads with vanished members that remain in the sum, and the number of their keys.

    The survivors' uploads contain shares with the vanished that nothing cancels. The server
    recomputes them from their keys. Returns their ring sum u32 [W] and the count of opened keys.
    """
    gone = attempt.members & ~attempt.alive
    lost = jnp.nonzero(gone, size=scheme.vanishing, fill_value=scheme.size)[0].astype(jnp.int32)
    slots = jnp.minimum(lost, scheme.size - 1)
    partners, valid = partners_of(scheme, attempt, graph, slots)
    valid &= attempt.alive[partners] & (lost < scheme.size)[:, None]
    theirs, ours = jnp.broadcast_to(slots[:, None], partners.shape), partners
    held = dealt = valid
    if scheme.shares == "paired":
        lower = attempt.ids[theirs] < attempt.ids[ours]
        held, dealt = valid & lower, valid & ~lower
    plus = sum_shares(scheme, source, keys_of, theirs, ours, held)
    minus = sum_shares(scheme, source, keys_of, ours, theirs, dealt)
    pads = scheme.ring.add(plus, scheme.ring.negate(minus))
    opened = jnp.sum(held, dtype=jnp.uint32) + jnp.sum(dealt, dtype=jnp.uint32)
    return pads, opened


def sum_shares(
    scheme: Scheme, source: Any, keys_of: KeysOf, dealers: Array, holders: Array, counted: Array
) -> UInt32[Array, " W"]:
    """Ring sum of the counted shares s_{dealer->holder}, by slot; the devices divide them up."""
    schedule = schedule_of(scheme)
    flat = (dealers.reshape(-1), holders.reshape(-1), counted.reshape(-1))
    pairs = flat[0].shape[0]
    listed = into_tiles(pairs, schedule.keys_at_once(scheme, pairs), scheme.mesh.size)
    items = tuple(jnp.append(x, jnp.zeros((1,), x.dtype))[listed] for x in flat)

    def body(source: Any, total: Array, item: tuple[Array, ...]) -> tuple[Array, None]:
        dealers, holders, counted = item
        keys = keys_of(source, dealers, holders)
        words = schedule.key_sums(scheme, keys, counted.astype(jnp.uint32))
        return scheme.ring.add(total, words), None

    def join(total: Array) -> Array:
        return join_devices(scheme.ring, total, AXIS)

    zero = jnp.zeros(scheme.width, jnp.uint32)
    return scan_tiles(scheme.mesh, body, rows_apart(join), source, zero, items)[0]
