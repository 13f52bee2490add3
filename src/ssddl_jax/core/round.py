"""One round of SSDDL: the paper's five modules, composed in one short function.

Everything here is traced into one XLA program. The round reads

    state = Init(...)                                   once
    group = SelectGroup(state)                          who takes part
    messages = LocalTrain(state, data, group)           tiles of members train; updates are encoded
    uploads = ParaShare(group, messages)                shares, masks, uploads, their sum
    state = ParaUpdate(state, uploads)                  decode, server optimizer, next chain state
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Bool, Float32, Int32, UInt32

from ssddl_jax.core.accumulate import Adder, Tile, ring_sums
from ssddl_jax.core.arithmetic import randomness
from ssddl_jax.core.arithmetic.encoding import decode_words, encode_pieces, joined, possible_weight
from ssddl_jax.core.learning.local_training import TrainTile, flattened
from ssddl_jax.core.learning.models import Model, Params
from ssddl_jax.core.learning.outcomes import Measure, Outcomes, measured, pack, unpack
from ssddl_jax.core.learning.population import Data
from ssddl_jax.core.sharing.base import Attempt, Messages, Scheme, Sharing, Uploads
from ssddl_jax.core.tiling import scan_tiles, tile_slots, tile_starts


class State(NamedTuple):
    """What a run carries from round to round."""

    params: Params
    server: Any  # server optimizer state
    chain: UInt32[Array, "8"]  # S_r; the only secret
    public: UInt32[Array, "8"]  # R, the same in every round
    round: UInt32[Array, ""]


class Group(NamedTuple):
    """A round's group: slot s is participant ids[s]."""

    ids: Int32[Array, " n"]
    vanished: Bool[Array, " n"]


class MemberRows(NamedTuple):
    """Rows of every slot, where a scheme or a transcript wants them."""

    updates: Float32[Array, "n d"] | None
    encoded: UInt32[Array, "n W"] | None
    uploads: UInt32[Array, "n W"] | None = None  # LocalTrain leaves them to ParaShare


class Info(NamedTuple):
    """Diagnostics of a round; its state carries on without them."""

    group: Int32[Array, " n"]
    alive: Bool[Array, " n"]
    members: Bool[Array, " n"]  # dealt shares in the final attempt
    attempt: UInt32[Array, ""]
    void: Bool[Array, ""]
    exact: Bool[Array, ""]  # aggregate == sum of the encoded updates it must hold, word for word
    finite: Bool[Array, " n"]
    clipped: UInt32[Array, " n"]
    loss: Float32[Array, " n"]  # mean training loss of every slot
    aggregate: Array  # u32 [W]; plain: f32 [d], the mean
    digest: UInt32[Array, " W"]  # the uploads digest; plain: empty
    opened: UInt32[Array, ""]  # pair keys, or shares of secrets, opened to the server
    diagnostics: Mapping[str, Float32[Array, " n"]] = {}  # optional metrics, if finite


class Recipe(NamedTuple):
    """The static choices of a round, besides its sharing."""

    scheme: Scheme
    model: Model
    train: TrainTile
    server: optax.GradientTransformation
    participants: int
    selection: str
    weighted: bool
    weight_max: int
    stochastic: bool
    tile_size: int
    precision: str  # of matrix products
    schedule: Any  # None, or (rounds i32 [m], ids i32 [m]) of those who vanish
    measures: Mapping[str, Measure]  # of every member's clipped update


def Init(recipe: Recipe, shape: tuple[int, ...], seed: int) -> State:
    """Parameters, server optimizer state, S_0 and R of a seed."""
    example = jax.device_put(np.zeros((1, *shape), np.float32))  # nothing to compile
    start = randomness.start_of(seed)
    with jax.threefry_partitionable(True):  # whatever the setting of JAX
        params = recipe.model.init(start.model, example)
    return State(
        params=params,
        server=recipe.server.init(params),
        chain=start.chain,
        public=start.public,
        round=jax.device_put(np.uint32(0)),
    )


def SelectGroup(recipe: Recipe, state: State) -> Group:
    """n of N without replacement, from public words, and who of them will vanish."""
    size, everybody = recipe.scheme.size, recipe.participants
    ids = randomness.selected(state.public, state.round, size, everybody, recipe.selection)
    if recipe.schedule is None:
        vanished = randomness.vanished_slots(
            state.public, state.round, size, recipe.scheme.vanishing
        )
    else:
        rounds, listed = (jnp.asarray(column, jnp.int32) for column in recipe.schedule)
        now = jnp.where(rounds == state.round.astype(jnp.int32), listed, -1)
        vanished = jnp.zeros(everybody + 1, bool).at[now].set(True)[ids]
    return Group(ids, vanished)


def LocalTrain(
    recipe: Recipe, adder: Adder, keep: bool = False
) -> Callable[[State, Data, Group], tuple[Any, Outcomes, MemberRows]]:
    """Members train in tiles; each update is encoded and added the moment it exists.

    Returns the adder's sums, the outcome of every slot, and the rows if they are kept.
    """
    scheme, tile = recipe.scheme, recipe.tile_size
    in_rows = keep or recipe.stochastic or scheme.ring.limbs > 1

    def trained(state: State, data: Data, ids: Array) -> tuple[tuple[Array, ...], Array]:
        updates, losses = recipe.train(state.params, data, state.public, state.round, ids)
        return flattened(updates) if in_rows else updates, losses

    def body(shared: tuple[State, Data, Group], carry: Any, start: Array) -> tuple[Any, Any]:
        state, data, group = shared
        slots = tile_slots(start, tile, scheme.size)
        inside = jnp.minimum(slots, scheme.size - 1)
        ids = group.ids[inside]
        with jax.named_scope("train"):
            updates, losses = trained(state, data, ids)
        counts = data.counts[ids].astype(jnp.uint32)
        weights = counts if recipe.weighted else jnp.ones_like(counts)
        noise = None
        if recipe.stochastic:
            draw = jax.vmap(randomness.rounding_noise, in_axes=(None, None, 0, None))
            noise = draw(state.public, state.round, ids, scheme.dimension)
        with jax.named_scope("encode"):
            words, finite, clipped = encode_pieces(updates, weights, scheme.encoding, noise)
        with jax.named_scope("measure"):
            diagnostics = measured(recipe.measures, updates, scheme.encoding.clip)
        present = finite & (slots < scheme.size)
        alive = present & ~group.vanished[inside]
        with jax.named_scope("add"):
            carry = adder.add(carry, Tile(slots, updates, words, weights, present, alive))
        kept = MemberRows(None, None)
        if keep:
            kept = MemberRows(jnp.concatenate(updates, axis=1), joined(words, scheme.encoding))
        return carry, (pack(Outcomes(finite, clipped, losses, diagnostics)), kept)

    def start(shared: tuple[State, Data, Group]) -> Any:
        state, data, group = shared
        updates, _ = jax.eval_shape(trained, state, data, group.ids[:tile])
        return adder.start(tuple(piece.shape[1:] for piece in updates))

    def run(state: State, data: Data, group: Group) -> tuple[Any, Outcomes, MemberRows]:
        tiles = tile_starts(scheme.size, tile, scheme.mesh.size)
        carry, rows = scan_tiles(scheme.mesh, body, adder.join, (state, data, group), start, tiles)
        outcomes, kept = jax.tree.map(
            lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[: scheme.size], rows
        )
        return adder.finish(carry), unpack(outcomes, recipe.measures), kept

    return run


def ParaShare(
    recipe: Recipe,
    sharing: Sharing,
    state: State,
    group: Group,
    outcomes: Outcomes,
    messages: Messages,
) -> tuple[Attempt, Uploads]:
    """The final attempt of the round's sharing, and what reached the server.

    If the scheme retries and a member vanished after sharing, attempt 0 is void and its survivors
    share again under fresh keys as attempt 1; what attempt 0 sent is never used, so it is not
    computed.
    """
    alive = outcomes.finite & ~group.vanished
    lost = outcomes.finite & group.vanished
    retry = recipe.scheme.retries
    number = jnp.any(lost).astype(jnp.uint32) if retry else jnp.uint32(0)
    attempt = Attempt(
        chain=state.chain,
        public=state.public,
        round=state.round,
        number=number,
        ids=group.ids.astype(jnp.uint32),
        members=alive if retry else outcomes.finite,
        alive=alive,
    )
    return attempt, sharing.share(attempt, messages)


def ParaUpdate(
    recipe: Recipe, state: State, mean: Float32[Array, " d"], void: Bool[Array, ""]
) -> State:
    """Applies the server optimizer to minus the mean update; a void round changes nothing but the
    chain, which always advances.
    """
    _, unravel = ravel_pytree(state.params)

    def apply() -> tuple[Params, Any]:
        moves, server = recipe.server.update(unravel(-mean), state.server, state.params)
        return optax.apply_updates(state.params, moves), server

    # A branch of its own is compiled alike in every program: the rounding of the update does not
    # depend on what a compiler fuses it with, hence not on the number of devices.
    params, server = lax.cond(void, lambda: (state.params, state.server), apply)
    chain = randomness.next_chain(state.chain)
    return State(params, server, chain, state.public, state.round + jnp.uint32(1))


def shared_round(
    recipe: Recipe, sharing: Sharing, keep: bool = False
) -> Callable[[State, Data], tuple[State, Info, MemberRows]]:
    """A round with secret sharing: (state, data) -> (state, info, rows).

    `keep` asks for rows that the round would only add up; without it they may be None.
    """
    adder = ring_sums(recipe.scheme, sharing.holds_sharers)
    train = LocalTrain(recipe, adder, keep or sharing.keeps)

    def step(state: State, data: Data) -> tuple[State, Info, MemberRows]:
        with jax.named_scope("SelectGroup"):
            group = SelectGroup(recipe, state)
        with jax.named_scope("LocalTrain"):
            sums, outcomes, kept = train(state, data, group)
        messages = Messages(sums.total, sums.digest, kept.encoded)
        with jax.named_scope("ParaShare"):
            attempt, uploads = ParaShare(recipe, sharing, state, group, outcomes, messages)
        with jax.named_scope("ParaUpdate"):
            return finish(state, group, outcomes, messages, kept, attempt, uploads)

    def finish(
        state: State,
        group: Group,
        outcomes: Outcomes,
        messages: Messages,
        kept: MemberRows,
        attempt: Attempt,
        uploads: Uploads,
    ) -> tuple[State, Info, MemberRows]:
        """Checks the aggregate, decodes and applies it."""
        mean, weight = decode_words(uploads.aggregate, recipe.scheme.encoding)
        held = attempt.members if sharing.holds_sharers else attempt.alive
        count = jnp.sum(held, dtype=jnp.uint32)
        most = recipe.scheme.size * recipe.weight_max
        plausible = possible_weight(weight, count, not recipe.weighted, most)
        right = jnp.all(uploads.aggregate == messages.total)
        void = ~jnp.asarray(uploads.enough) | (right & ~plausible)
        after = ParaUpdate(recipe, state, mean, void | ~right)  # a wrong sum is never applied
        info = Info(
            group=group.ids,
            alive=attempt.alive,
            members=attempt.members,
            attempt=attempt.number,
            void=void,
            exact=right & ~void,
            finite=outcomes.finite,
            clipped=outcomes.clipped,
            loss=outcomes.loss,
            aggregate=jnp.where(void, jnp.uint32(0), uploads.aggregate),
            digest=jnp.where(void, jnp.uint32(0), uploads.digest),
            opened=uploads.opened,
            diagnostics=outcomes.diagnostics,
        )
        sent = uploads.each
        if sent is not None:  # none of a void round: one survivor's alone would be its update
            sent = jnp.where(void, jnp.uint32(0), sent)
        return after, info, kept._replace(uploads=sent)

    return step
