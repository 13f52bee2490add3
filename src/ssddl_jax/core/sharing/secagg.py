"""SecAgg (Bonawitz et al. 2017); on a sparse graph, SecAgg+ (Bell et al. 2020).

Member u has two secrets: the seed b_u of its own mask, and a key s_u from which it agrees on a key
K_uv with every partner v. It deals Shamir shares of both, of which t are needed, to its *holders*:
its partners and itself. It uploads

    y_u = x_u + PRG(b_u) + sum_{v<u} PRG(K_uv) - sum_{v>u} PRG(K_uv)     (by id)

Each survivor then opens one of the two shares that it holds of each member u: that of b_u if u
uploaded, that of s_u if u vanished, never both. The server interpolates, subtracts the survivors'
own masks and the pair masks with the vanished, and is left with the sum of the survivors' updates.
A late upload stays hidden under PRG(b_u). If a member has fewer than t holders left, nothing is
opened and the round is void.

A secret is eight elements of F_p, p = 2^31 - 1: 256 bits on the wire, 248 bits of secrecy (our
choice). Key agreement is simulated: K_uv = first8(ChaCha20(s_u xor s_v, a, (min id, max id,
"PAIR"))). It takes one member's secret key and a stand-in for the other's public key, so a key that
was recovered wrongly would show in the sum. The compiled round evaluates only the shares that are
opened.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, UInt32

from ssddl_jax.core.arithmetic.field import MERSENNE31, combine, horner, lagrange_at_zero
from ssddl_jax.core.arithmetic.randomness import agreed_keys, secret_elements
from ssddl_jax.core.devices import AXIS
from ssddl_jax.core.exchange import rows_apart
from ssddl_jax.core.sharing import graphs
from ssddl_jax.core.sharing.base import (
    Attempt,
    Messages,
    Scheme,
    Sharing,
    Uploads,
    join_devices,
    slot_factors,
    weighted_sum,
)
from ssddl_jax.core.sharing.pairwise import pair_words_made
from ssddl_jax.core.sharing.partners import attempt_graph, partners_of
from ssddl_jax.core.sharing.schedules.choice import schedule_of
from ssddl_jax.core.sharing.unmasking import pads_to_remove
from ssddl_jax.core.tiling import into_tiles, scan_tiles, tile_count

SELF_MASK, MASK_KEY = 1, 2  # kinds of secret; 0: none
_KEYS = 64  # secrets whose shares are evaluated side by side
_TILE_ELEMENTS = 1 << 16  # of shares evaluated side by side: they stay in a core's cache
Source = tuple[Attempt, UInt32[Array, "n 8"]]  # the mask keys that give the pair keys


class Opened(NamedTuple):
    """The shares that the server receives after the uploads; all zeros if the round is void."""

    kind: UInt32[Array, " n"]  # the opened secret of each slot: SELF_MASK, MASK_KEY, or 0
    answers: UInt32[Array, " n"]  # how many of its shares are opened
    points: UInt32[Array, "n t"]  # the points of the first t of them
    shares: UInt32[Array, "n t 8"]
    enough: Bool[Array, ""]  # every member had t holders left


class Recovered(NamedTuple):
    """What the server learns about the members' secrets after the uploads."""

    kind: UInt32[Array, " n"]  # the opened secret of each slot: SELF_MASK, MASK_KEY, or 0
    secret: UInt32[Array, "n 8"]  # interpolated from the opened shares
    opened: UInt32[Array, " n"]  # how many of its shares were opened
    enough: Bool[Array, ""]  # every member had t holders left


def secrets_of(attempt: Attempt, kind: int) -> UInt32[Array, "n 8"]:
    """The secrets of one kind of every slot, elements of F_p."""
    purpose = "SELF" if kind == SELF_MASK else "MKEY"
    return secret_elements(attempt.chain, attempt.number, attempt.ids, 0, purpose)


def partner_keys(source: Source, dealers: Array, holders: Array) -> UInt32[Array, "... 8"]:
    """Pair keys K_uv of pairs of slots, from the mask keys in `source`."""
    attempt, secrets = source
    both = secrets[dealers] ^ secrets[holders]
    return agreed_keys(both, attempt.number, attempt.ids[dealers], attempt.ids[holders])


def recover(scheme: Scheme, attempt: Attempt) -> Recovered:
    """Opens one secret of each member from t shares, by Lagrange interpolation over F_p."""
    given = open_shares(scheme, attempt)
    secret = interpolate(given.points, given.shares)
    return Recovered(given.kind, secret, given.answers, given.enough)


def open_shares(scheme: Scheme, attempt: Attempt) -> Opened:
    """Opens the shares that the server needs, one kind for each member.

    Every surviving holder opens its share of a member's self-mask seed if the member uploaded, and
    of its mask key otherwise. Nobody opens anything if a member has fewer than t holders left, if
    too few survive, or if the survivors' graph is cut. If it were cut, the server could remove all
    masks within each part and learn its sum.
    """
    slots, t = jnp.arange(scheme.size, dtype=jnp.int32), scheme.threshold
    graph = attempt_graph(scheme, attempt)
    partners, valid = partners_of(scheme, attempt, graph, slots)
    holders = jnp.concatenate([slots[:, None], partners], axis=1)
    valid = jnp.concatenate([attempt.members[:, None], valid], axis=1)
    answers = valid & attempt.alive[holders]
    count = jnp.sum(answers, axis=1, dtype=jnp.uint32)
    few = attempt.members & (count < jnp.uint32(t))
    enough = ~jnp.any(few) & (jnp.sum(attempt.alive, dtype=jnp.int32) >= scheme.least_alive)
    if graph is not None and scheme.vanishing:
        enough &= graphs.survivors_connected(graph, scheme.neighbours, attempt.alive)
    uploaded = attempt.alive
    kind = jnp.where(uploaded, jnp.uint32(SELF_MASK), jnp.uint32(MASK_KEY))
    kind = jnp.where(attempt.members & enough, kind, jnp.uint32(0))
    _, first = lax.sort((~answers, holders), dimension=1, num_keys=1, is_stable=True)
    points = first[:, :t].astype(jnp.uint32) + jnp.uint32(1)  # holder in slot j has f(j + 1)
    secrets = jnp.where(
        uploaded[:, None], secrets_of(attempt, SELF_MASK), secrets_of(attempt, MASK_KEY)
    )
    shares = shares_at(scheme, attempt, secrets, points)
    shown = kind > 0
    return Opened(
        kind=kind,
        answers=jnp.where(shown, count, jnp.uint32(0)),
        points=points,
        shares=jnp.where(shown[:, None, None], shares, jnp.uint32(0)),
        enough=enough,
    )


def interpolate(
    points: UInt32[Array, "n t"], shares: UInt32[Array, "n t 8"]
) -> UInt32[Array, "n 8"]:
    """The server's step: f_u(0) of every slot from t shares, by Lagrange interpolation over F_p."""
    weights = jax.vmap(lambda row: lagrange_at_zero(MERSENNE31, row))(points)
    return jax.vmap(lambda w, s: combine(MERSENNE31, w, s))(weights, shares)


def shares_at(
    scheme: Scheme, attempt: Attempt, secrets: UInt32[Array, "n 8"], points: UInt32[Array, "n m"]
) -> UInt32[Array, "n m 8"]:
    """Shares f_u(x) of the opened secret f_u(0) of every slot, at that slot's points."""
    n, m = points.shape
    purpose = jnp.where(attempt.alive, jnp.uint32(SELF_MASK), jnp.uint32(MASK_KEY))
    degrees = jnp.arange(scheme.threshold - 1, 0, -1, dtype=jnp.uint32)
    tile = max(1, min(_KEYS, _TILE_ELEMENTS // (8 * m)))
    listed = into_tiles(n, tile, scheme.mesh.size)
    items = tuple(
        jnp.pad(x, [(0, 1), *((0, 0) for _ in x.shape[1:])])[listed]
        for x in (attempt.ids, purpose, secrets, points)
    )

    def body(attempt: Attempt, carry: None, item: tuple[Array, ...]) -> tuple[None, Array]:
        ids, purpose, secrets, points = item
        steps = degrees[:, None] * jnp.uint32(4) + purpose[None]
        everybody = jnp.broadcast_to(ids, steps.shape)
        rows = secret_elements(attempt.chain, attempt.number, everybody, steps, "SECA")

        def lower(value: Array, coefficient: Array) -> tuple[Array, None]:
            """One step of Horner's rule."""
            return horner(MERSENNE31, value, coefficient[..., None], points[:, None]), None

        value, _ = lax.scan(lower, jnp.zeros((tile, 8, m), jnp.uint32), rows)
        value = MERSENNE31.add(value, jnp.broadcast_to(secrets[..., None], value.shape))
        return carry, jnp.moveaxis(value, 1, 2)

    _, rows = scan_tiles(scheme.mesh, body, rows_apart(), attempt, None, items)
    return rows.reshape(-1, m, 8)[:n]


def words_made(scheme: Scheme) -> int:
    """PRG words that a round evaluates, 16 for each block, tile padding included.

    Counts pair masks, self masks (at the members and again at the server), and the pair masks that
    the server recomputes for vanished members.
    """
    tile = schedule_of(scheme).keys_at_once(scheme, scheme.size)
    selves = 2 * tile * tile_count(scheme.size, tile, scheme.mesh.size) * scheme.num_blocks
    return pair_words_made(scheme) + 16 * selves


def secagg(scheme: Scheme) -> Sharing:
    """The `Sharing` of rule secagg, for protocols secagg and secagg+; shares are paired."""
    masks, ring_of = schedule_of(scheme).masks(scheme, partner_keys), scheme.ring

    def share(attempt: Attempt, messages: Messages) -> Uploads:
        graph = attempt_graph(scheme, attempt)
        slots = jnp.arange(scheme.size, dtype=jnp.int32)
        factors = slot_factors(slots, attempt.alive)
        source = (attempt, secrets_of(attempt, MASK_KEY))
        selves = secrets_of(attempt, SELF_MASK)
        each = None
        if messages.each is None:
            pads = masks.sums(attempt, graph, source, None)
            own, own_digest = self_sums(scheme, selves, attempt.alive, factors)
            aggregate = messages.total + pads.total + own
            digest = messages.digest + pads.digest + own_digest
        else:
            each = ring_of.add(messages.each, masks.each(attempt, graph, source))
            each = ring_of.add(each, self_masks(scheme, selves))
            each = jnp.where(attempt.alive[:, None], each, jnp.uint32(0))
            aggregate, digest = ring_of.sum(each), weighted_sum(each, factors)
        found = recover(scheme, attempt)
        aggregate = unmasked(scheme, attempt, graph, found, source[1], aggregate)
        opened = jnp.sum(found.opened, dtype=jnp.uint32)
        return Uploads(aggregate, digest, each, opened, found.enough)

    keeps = ring_of.limbs == 2
    return Sharing(share, keeps=keeps, uses_digest=not keeps)


def unmasked(
    scheme: Scheme,
    attempt: Attempt,
    graph: graphs.RingGraph | None,
    found: Recovered,
    public: UInt32[Array, "n 8"],
    summed: UInt32[Array, " W"],
) -> UInt32[Array, " W"]:
    """The server's step: removes every mask from `summed`, the sum of the survivors' uploads.

    It uses the recovered mask keys of the vanished, and the others' `public` keys.
    """
    own, _ = self_sums(scheme, found.secret, found.kind == SELF_MASK, jnp.zeros_like(found.kind))
    less = scheme.ring.add(summed, scheme.ring.negate(own))
    if not scheme.vanishing:
        return less
    known = jnp.where((found.kind == MASK_KEY)[:, None], found.secret, public)
    pads, _ = pads_to_remove(scheme, attempt, graph, (attempt, known), partner_keys)
    return scheme.ring.add(less, scheme.ring.negate(pads))


def self_sums(
    scheme: Scheme,
    seeds: UInt32[Array, "n 8"],
    counted: Bool[Array, " n"],
    factors: UInt32[Array, " n"],
) -> tuple[UInt32[Array, " W"], UInt32[Array, " W"]]:
    """Ring sum of the counted slots' self-masks, and the sum of factor * word.

    The devices divide up the slots. In the wide ring the second sum is zeros.
    """
    ring, schedule = scheme.ring, schedule_of(scheme)
    listed = into_tiles(scheme.size, schedule.keys_at_once(scheme, scheme.size), scheme.mesh.size)
    blank = jnp.zeros(1, jnp.uint32)
    items: tuple[Any, ...] = (
        jnp.concatenate([seeds, jnp.zeros((1, 8), jnp.uint32)])[listed],
        jnp.append(counted, jnp.zeros(1, bool))[listed],
        jnp.append(factors, blank)[listed],
    )

    def body(shared: None, carry: Any, item: tuple[Array, ...]) -> tuple[Any, None]:
        keys, counted, factors = item
        if ring.limbs == 1:
            total, digest = schedule.drawn_sums(scheme, keys, counted, factors)
        else:  # the wide ring keeps its rows and takes the digest from them
            total = schedule.key_sums(scheme, keys, counted.astype(jnp.uint32))
            digest = jnp.zeros_like(total)
        return (ring.add(carry[0], total), carry[1] + digest), None

    def join(carry: Any) -> Any:
        return join_devices(ring, carry[0], AXIS), lax.psum(carry[1], AXIS)

    zeros = jnp.zeros(scheme.width, jnp.uint32)
    begin, exchange = (zeros, zeros), rows_apart(join)
    (total, digest), _ = scan_tiles(scheme.mesh, body, exchange, None, begin, items)
    return total, digest


def self_masks(scheme: Scheme, seeds: UInt32[Array, "n 8"]) -> UInt32[Array, "n W"]:
    """The self-masks PRG(b_u) of every slot."""
    return schedule_of(scheme).rows(scheme, seeds, jnp.ones(seeds.shape[0], jnp.uint32))
