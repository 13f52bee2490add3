"""One round of SSDDL: the paper's five modules, composed in one short function.

Everything here is traced into one XLA program. In outline:

    state = Init(...)                                   once
    group = SelectGroup(state)                          who takes part
    messages = LocalTrain(state, data, group)           members train; updates are encoded
    uploads = ParaShare(group, messages)                shares, masks, uploads and their sum
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
from ssddl_jax.core.learning.local_training import DrawnFirst, flattened
from ssddl_jax.core.learning.models import Model, Params
from ssddl_jax.core.learning.outcomes import Measure, Outcomes, measured, pack, unpack
from ssddl_jax.core.learning.population import Data
from ssddl_jax.core.sharing.base import Attempt, Messages, Scheme, Sharing, Uploads
from ssddl_jax.core.tiling import Before, scan_tiles, tile_slots, tile_starts


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
    diagnostics: Mapping[str, Float32[Array, " n"]] = {}  # optional metrics, if finite


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


def Init(recipe: Recipe, shape: tuple[int, ...], seed: int) -> State:
    """The state before round 0: parameters, server optimizer state, S_0 and R.

    `shape` is that of one example; 0 <= seed < 2^64. Runs on the host.
    """
    example = jax.device_put(np.zeros((1, *shape), np.float32))  # a transfer: nothing is compiled
    start = randomness.start_of(seed)
    with jax.threefry_partitionable(True):  # whatever JAX's own setting
        params = recipe.model.init(start.model, example)
    return State(
        params=params,
        server=recipe.server.init(params),
        chain=start.chain,
        public=start.public,
        round=jax.device_put(np.uint32(0)),
    )


def SelectGroup(recipe: Recipe, state: State) -> Group:
    """Draws n of N participants without replacement, from public words, and who will vanish."""
    size, everybody = recipe.scheme.size, recipe.participants
    ids = randomness.selected(state.public, state.round, size, everybody, recipe.selection)
    if recipe.dropouts is None:
        vanished = randomness.vanished_slots(
            state.public, state.round, size, recipe.scheme.vanishing
        )
    else:
        rounds, listed = (jnp.asarray(column, jnp.int32) for column in recipe.dropouts)
        now = jnp.where(rounds == state.round.astype(jnp.int32), listed, -1)
        vanished = jnp.zeros(everybody + 1, bool).at[now].set(True)[ids]
    return Group(ids, vanished)


def LocalTrain(
    recipe: Recipe, adder: Adder, keep: bool = False
) -> Callable[[State, Data, Group], tuple[Any, Outcomes, MemberRows]]:
    """Members train in tiles. Each update is encoded and added as soon as it exists.

    Returns (state, data, group) -> (the adder's sums, every slot's outcome, rows if `keep`).
    """
    scheme, tile = recipe.scheme, recipe.tile_size
    in_rows = keep or recipe.stochastic or scheme.ring.limbs > 1

    def prepare(shared: tuple[State, Data, Group], starts: Array) -> Any:
        state, data, group = shared
        slots = jax.vmap(lambda start: tile_slots(start, tile, scheme.size))(starts)
        ids = group.ids[jnp.minimum(slots, scheme.size - 1)]
        return recipe.train.draw_tiles(data, state.public, state.round, ids)

    def trained(state: State, data: Data, drawn: Any) -> tuple[tuple[Array, ...], Array]:
        updates, losses = recipe.train.train(state.params, data, drawn)
        return flattened(updates) if in_rows else updates, losses

    def body(shared: tuple[State, Data, Group], carry: Any, item: Any) -> tuple[Any, Any]:
        (state, data, group), (start, drawn) = shared, item
        slots = tile_slots(start, tile, scheme.size)
        inside = jnp.minimum(slots, scheme.size - 1)
        ids = group.ids[inside]
        with jax.named_scope("train"):
            updates, losses = trained(state, data, drawn)
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
        drawn = jax.eval_shape(prepare, shared, jnp.zeros(1, jnp.int32))
        one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), drawn)
        updates, _ = jax.eval_shape(trained, *shared[:2], one)
        return adder.start(tuple(piece.shape[1:] for piece in updates))

    def run(state: State, data: Data, group: Group) -> tuple[Any, Outcomes, MemberRows]:
        shared, before = (state, data, group), Before(prepare, scheme.size)
        tiles = tile_starts(scheme.size, tile, scheme.mesh.size)
        carry, rows = scan_tiles(scheme.mesh, body, adder.join, shared, start, tiles, before)
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[: scheme.size], rows)
        return adder.finish(carry), unpack(flat[0], recipe.measures), flat[1]

    return run


def ParaShare(
    recipe: Recipe,
    sharing: Sharing,
    state: State,
    group: Group,
    outcomes: Outcomes,
    messages: Messages,
) -> tuple[Attempt, Uploads]:
    """Runs the final attempt of the round's sharing, and returns it with the server's view.

    If the scheme retries and a member vanishes after sharing, attempt 0 is void, and its survivors
    share again under fresh keys in attempt 1. Nothing that attempt 0 sent is used, so it is not
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
    """Applies the server optimizer, with minus the mean update as its gradient.

    A void round changes neither parameters nor optimizer state. The key chain always advances.
    """
    _, unravel = ravel_pytree(state.params)

    def apply() -> tuple[Params, Any]:
        moves, server = recipe.server.update(unravel(-mean), state.server, state.params)
        return optax.apply_updates(state.params, moves), server

    # XLA compiles a branch by itself, alike in every program. So the update's rounding does not
    # depend on what the compiler fuses around it, nor on the number of devices.
    params, server = lax.cond(void, lambda: (state.params, state.server), apply)
    chain = randomness.next_chain(state.chain)
    return State(params, server, chain, state.public, state.round + jnp.uint32(1))


def shared_round(
    recipe: Recipe, sharing: Sharing, keep: bool = False
) -> Callable[[State, Data], tuple[State, Info, MemberRows]]:
    """A round with secret sharing: (state, data) -> (state, info, rows).

    `keep`: also return the rows that the round otherwise only adds up; without it they may be None.
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
        """Checks the aggregate, decodes it and applies it."""
        mean, weight = decode_words(uploads.aggregate, recipe.scheme.encoding)
        summed = attempt.members if sharing.holds_sharers else attempt.alive
        count = jnp.sum(summed, dtype=jnp.uint32)
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
        if sent is not None:  # a void round shows none: a lone upload would be its sender's update
            sent = jnp.where(void, jnp.uint32(0), sent)
        return after, info, kept._replace(uploads=sent)

    return step
