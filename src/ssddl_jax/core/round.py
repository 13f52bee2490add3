"""One round of SSDDL: the paper's five modules, composed in one short function.

Everything here is traced into one XLA program. In outline:

    state = Init(...)                                   once
    group = SelectGroup(state)                          who takes part
    messages = LocalTrain(state, data, group)           members train; updates are encoded
    uploads = ParaShare(group, messages)                shares, masks, uploads and their sum
    state = ParaUpdate(state, uploads)                  decode, server optimizer, next chain state
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Bool, Float32, Int32, UInt32

from ssddl_jax.core.accumulate import Adder, Tile, ring_sums
from ssddl_jax.core.arithmetic import randomness
from ssddl_jax.core.arithmetic.encoding import (
    EncodedPieces,
    decode_words,
    encode_pieces,
    joined,
    possible_weight,
)
from ssddl_jax.core.devices import platform_of
from ssddl_jax.core.learning.local_training import flattened
from ssddl_jax.core.learning.models import Params
from ssddl_jax.core.learning.outcomes import Outcomes, measured, pack, unpack
from ssddl_jax.core.learning.population import Data
from ssddl_jax.core.records import Group, Info, MemberRows, Recipe, State
from ssddl_jax.core.sharing.base import Again, Attempt, Messages, Sharing, Uploads
from ssddl_jax.core.tiling import Before, scan_tiles, tile_slots, tile_starts


def Init(recipe: Recipe, shape: tuple[int, ...], seed: int | UInt32[Array, "2"]) -> State:
    """The state before round 0: parameters, server optimizer state, S_0 and R.

    `shape` is that of one example; 0 <= seed < 2^64, or its two words. Runs on the host, or traced.
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

    def body(shared: tuple[State, Data, Group], carry: Any, item: Any) -> tuple[Any, Any]:
        (_, _, group), (start, drawn) = shared, item
        slots = tile_slots(start, tile, scheme.size)
        inside = jnp.minimum(slots, scheme.size - 1)
        updates, losses, weights, (words, finite, clipped) = train_slots(
            recipe, shared, inside, drawn, in_rows
        )
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

    def start(shared: tuple[State, Data, Group], drawn: Callable[[], Any]) -> Any:
        def trained() -> Any:
            return train_slots(recipe, shared, jnp.zeros(tile, jnp.int32), drawn(), in_rows)

        updates, *_ = jax.eval_shape(trained)
        return adder.start(tuple(piece.shape[1:] for piece in updates))

    def run(state: State, data: Data, group: Group) -> tuple[Any, Outcomes, MemberRows]:
        shared = (state, data, group)
        least = tile * recipe.train.elements(data)
        before = Before(prepare, start, scheme.size, scheme.traits.prepared, least)
        tiles = tile_starts(scheme.size, tile, scheme.mesh.size)
        carry, rows = scan_tiles(scheme.mesh, body, adder.exchange, shared, None, tiles, before)
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[: scheme.size], rows)
        return adder.finish(carry), unpack(flat[0], recipe.measures), flat[1]

    return run


def weights_of(recipe: Recipe, data: Data, ids: Int32[Array, " T"]) -> UInt32[Array, " T"]:
    """The weights of participants: their examples, or 1 each."""
    counts = data.counts[ids].astype(jnp.uint32)
    return counts if recipe.weighted else jnp.ones_like(counts)


def train_slots(
    recipe: Recipe,
    shared: tuple[State, Data, Group],
    slots: Int32[Array, " T"],
    drawn: Any,
    in_rows: bool,
) -> tuple[tuple[Array, ...], Float32[Array, " T"], UInt32[Array, " T"], EncodedPieces]:
    """Trains one tile of slots and encodes it: (updates in pieces, losses, weights, encoded).

    `drawn`: the tile's batches.
    """
    (state, data, group), scheme = shared, recipe.scheme
    ids = group.ids[slots]
    with jax.named_scope("train"):
        updates, losses = recipe.train.train(state.params, data, drawn)
        updates = flattened(updates) if in_rows else updates
    weights = weights_of(recipe, data, ids)
    noise = None
    if recipe.stochastic:
        public, quick = (state.public, state.round), scheme.prg.in_memory
        noise = randomness.rounding_noise(
            *public, ids, scheme.dimension, platform_of(scheme.mesh), quick
        )
    with jax.named_scope("encode"):
        return updates, losses, weights, encode_pieces(updates, weights, scheme.encoding, noise)


def train_again(
    recipe: Recipe, shared: tuple[State, Data, Group], slots: Int32[Array, " M"]
) -> UInt32[Array, "M W"]:
    """The messages of some slots, trained once more, in tiles as before."""
    (state, data, group), tile, count = shared, recipe.tile_size, len(slots)
    tiles = jnp.pad(slots, (0, -count % tile)).reshape(-1, tile)

    def messages(slots: Array) -> UInt32[Array, "T W"]:
        drawn = recipe.train.draw(data, state.public, state.round, group.ids[slots])
        *_, encoded = train_slots(recipe, shared, slots, drawn, in_rows=True)
        return joined(encoded.words, recipe.scheme.encoding)

    rows: Array = lax.map(messages, tiles)
    return rows.reshape(-1, recipe.scheme.width)[:count]


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
    adder = ring_sums(recipe.scheme, sharing.holds_sharers, sharing.uses_digest)
    train = LocalTrain(recipe, adder, keep or sharing.keeps)

    def step(state: State, data: Data) -> tuple[State, Info, MemberRows]:
        with jax.named_scope("SelectGroup"):
            group = SelectGroup(recipe, state)
        with jax.named_scope("LocalTrain"):
            sums, outcomes, kept = train(state, data, group)
        again = Again(partial(train_again, recipe), (state, data, group))
        messages = Messages(sums.total, sums.digest, kept.encoded, again)
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
        shown = uploads.sampled
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
            sampled=None if shown is None else jnp.where(void, jnp.uint32(0), shown),
            diagnostics=outcomes.diagnostics,
        )
        sent = uploads.each
        if sent is not None:  # a void round shows none: a lone upload would be its sender's update
            sent = jnp.where(void, jnp.uint32(0), sent)
        return after, info, kept._replace(uploads=sent)

    return step
