"""All random words (docs/protocol.md, section 4): the secret key chain, and public words.

Every pair key is derived from the chain S_0, S_1, ... The chain is forward secure: a state does not
reveal the one before it. Public words (selection, graph, batches, dropouts, rounding) come from
another key, so nothing public depends on a secret key. All functions are traceable; rounds and ids
may be traced.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Float32, Int32, UInt32

from ssddl_jax.core.arithmetic.chacha import CHACHA20, blocks, first8, tag, words
from ssddl_jax.core.arithmetic.key_sums import row_words
from ssddl_jax.core.arithmetic.reductions import sum_together
from ssddl_jax.core.arithmetic.rings import mul_high

Key = UInt32[Array, "8"]
_P = 2**31 - 1
FEW_ROWS = 64  # rows whose order is found by counting
_EVERYBODY = 0xFFFFFFFF  # in a nonce, in place of one participant's id


def _nonce(*parts: Array | int) -> UInt32[Array, "3"]:
    return jnp.stack([jnp.asarray(part, jnp.uint32) for part in parts])


def seed_words(seed: int) -> UInt32[np.ndarray, "2"]:
    """The two words of a seed, 0 <= seed < 2^64."""
    return np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint32)


class Start(NamedTuple):
    """The keys that a run starts from."""

    chain: Key  # S_0
    public: Key  # R
    model: Array  # a jax.random key for the model's initial parameters


def start_of(seed: int | UInt32[Array, "2"]) -> Start:
    """Derives all starting keys from a seed, 0 <= seed < 2^64, or from its two words."""
    words = seed if isinstance(seed, jax.Array) else jax.device_put(seed_words(seed))
    traced = isinstance(words, jax.core.Tracer)  # a part of a program cannot have its own options
    return (_started if traced else _started_alone)(words)


def _started(words: UInt32[Array, "2"]) -> Start:
    nonces = jnp.stack([_nonce(0, 0, tag("INIT")), _nonce(0, 0, tag("RAND"))])
    chain, public = first8(jnp.pad(words, (0, 6))[None], jnp.zeros(1, jnp.uint32), nonces)
    model = jax.random.key(words[0], impl="threefry2x32")  # whatever JAX's default
    return Start(chain, public, jax.random.fold_in(model, words[1]))


# It runs once; the optimisation level cannot change integers.
_started_alone = jax.jit(_started, compiler_options={"xla_backend_optimization_level": "0"})


def initial_chain(seed: int) -> Key:
    """S_0, the chain state before round 0; 0 <= seed < 2^64."""
    return start_of(seed).chain


def next_chain(chain: Key) -> Key:
    """S_{r+1} from S_r. The caller erases the old state."""
    return first8(chain, jnp.uint32(0), _nonce(0, 0, tag("NEXT")))


def chain_at(chain: Key, steps: UInt32[Array, ""]) -> Key:
    """The chain state `steps` rounds later."""
    return lax.fori_loop(jnp.uint32(0), steps, lambda _, state: next_chain(state), chain)


def public_key(seed: int) -> Key:
    """R, the key of all public randomness; 0 <= seed < 2^64."""
    return start_of(seed).public


def pair_keys(
    chain: Key,
    attempt: UInt32[Array, ""],
    dealers: UInt32[Array, " *shape"],
    holders: UInt32[Array, " *shape"],
) -> UInt32[Array, "*shape 8"]:
    """Keys K_{i->j} of dealers i and holders j (global ids) under this round's chain state."""
    return _keys(chain, attempt, dealers, holders, tag("PAIR"))


def ideal_keys(
    chain: Key, attempt: UInt32[Array, ""], ids: UInt32[Array, " *shape"]
) -> UInt32[Array, "*shape 8"]:
    """Keys from which engine ideal draws its uploads."""
    return _keys(chain, attempt, ids, jnp.zeros_like(ids), tag("IDEA"))


def coefficient_keys(
    chain: Key,
    attempt: UInt32[Array, ""],
    dealers: UInt32[Array, " *shape"],
    degrees: UInt32[Array, " *shape"],
) -> UInt32[Array, "*shape 8"]:
    """Keys of the coefficients of the dealers' polynomials, of degrees 1..t-1."""
    return _keys(chain, attempt, dealers, degrees, tag("SHAM"))


def agreed_keys(
    secrets: UInt32[Array, "*shape 8"],
    attempt: UInt32[Array, ""],
    first: UInt32[Array, " *shape"],
    second: UInt32[Array, " *shape"],
) -> UInt32[Array, "*shape 8"]:
    """Keys on which two members agree, the same in either order. Our simulation of key agreement.

    first8(ChaCha20(secrets, a, (lower id, higher id, "PAIR"))), where `secrets` is the xor of both
    members' secrets, in place of a Diffie-Hellman secret.
    """
    low, high = jnp.minimum(first, second), jnp.maximum(first, second)
    nonce = jnp.stack([low, high, jnp.full_like(low, tag("PAIR"))], axis=-1)
    return first8(secrets, jnp.broadcast_to(attempt, (1,) * low.ndim), nonce)


def secret_elements(
    chain: Key,
    attempt: UInt32[Array, ""],
    ids: UInt32[Array, " *shape"],
    index: Array | int,
    purpose: str,
) -> UInt32[Array, "*shape 8"]:
    """Eight elements of F_p, p = 2^31 - 1, for each participant. Our choice.

    Takes words 0..7 of ChaCha20(S_r, a, (id, index, purpose)), each masked to 31 bits. Where the
    result is p, takes words 8..15; where that is p as well (probability 2^-62), 0. `index` u32
    [*shape] distinguishes several secrets of one participant.
    """
    second = jnp.broadcast_to(jnp.asarray(index, jnp.uint32), ids.shape)
    nonce = jnp.stack([ids, second, jnp.full_like(ids, tag(purpose))], axis=-1)
    lead = (1,) * ids.ndim
    drawn = blocks(chain.reshape(*lead, 8), jnp.broadcast_to(attempt, lead), nonce)
    drawn = drawn & jnp.uint32(_P)
    first = jnp.where(drawn[:8] == jnp.uint32(_P), drawn[8:], drawn[:8])
    return jnp.moveaxis(jnp.where(first == jnp.uint32(_P), jnp.uint32(0), first), 0, -1)


def _keys(chain: Key, attempt: Array, first: Array, second: Array, purpose: Array) -> Array:
    nonce = jnp.stack([first, second, jnp.full_like(first, purpose)], axis=-1)
    lead = (1,) * first.ndim
    return first8(chain.reshape(*lead, 8), jnp.broadcast_to(attempt, lead), nonce)


def shuffled(public: Key, first: Array | int, count: int) -> Int32[Array, " count"]:
    """0..count-1 in the order of their SELE words: a random order of all participants.

    `first` is the round, or the pass of `rotate`.
    """
    drawn = words(public, _nonce(first, _EVERYBODY, tag("SELE")), count)
    return jnp.argsort(drawn, stable=True)


def selected(
    public: Key, round_: Array, size: int, everybody: int, selection: str
) -> Int32[Array, " size"]:
    """Ids of a round's group: n = `size` of N = `everybody` participants, without replacement.

    `rotate`: a pass is floor(N / n) rounds over one shuffled order. The remaining participants,
    fewer than n, sit out that pass (our reading).
    """
    if size == everybody:
        return jnp.arange(size, dtype=jnp.int32)
    if selection == "random":
        return shuffled(public, round_, everybody)[:size]
    per_pass = jnp.uint32(everybody // size)
    order = shuffled(public, round_ // per_pass, everybody)
    start = (round_ % per_pass).astype(jnp.int32) * size
    return lax.dynamic_slice(order, (start,), (size,))


def ring_words(public: Key, round_: Array, attempt: Array, count: int) -> UInt32[Array, " count"]:
    """GRPH words of an attempt, one for each slot. Their order arranges the members in a ring."""
    return words(public, _nonce(round_, attempt, tag("GRPH")), count)


def vanished_slots(public: Key, round_: Array, size: int, vanishing: int) -> Bool[Array, " size"]:
    """Which slots upload nothing in this round; exactly `vanishing` are true."""
    if not vanishing:
        return jnp.zeros(size, bool)
    order = jnp.argsort(words(public, _nonce(round_, _EVERYBODY, tag("DROP")), size), stable=True)
    return jnp.zeros(size, bool).at[order[:vanishing]].set(True)


def batch_order(
    public: Key, round_: Array, participant: Array, count: Array, epochs: int, most: int
) -> Int32[Array, "epochs most"]:
    """A permutation of a participant's `count` rows for each epoch; later entries are padding.

    Word e * count + j orders row j in epoch e. `count` may be traced and is at most `most`. The
    layout of the words depends on `count`, so words are looked up rather than reshaped.
    """
    drawn = participant_words(public, round_, participant, epochs * most, "BTCH")
    position = jnp.arange(most, dtype=jnp.uint32)[None, :]
    count = count.astype(jnp.uint32)
    index = jnp.arange(epochs, dtype=jnp.uint32)[:, None] * count + position
    num_blocks = jnp.maximum((jnp.uint32(epochs) * count + jnp.uint32(15)) // jnp.uint32(16), 1)
    lane = jnp.minimum(index // num_blocks, 15)
    keys = drawn[lane, index % num_blocks]
    keys = jnp.where(position < count, keys, jnp.uint32(0xFFFFFFFF))
    return sorted_rows(keys) if most <= FEW_ROWS else jnp.argsort(keys, axis=1, stable=True)


def sorted_rows(keys: UInt32[Array, "m n"]) -> Int32[Array, "m n"]:
    """The stable argsort of short rows: the place of each key is the number of keys before it.

    For 20 keys it takes a twentieth of a sort's time.
    """
    at = jnp.arange(keys.shape[1], dtype=jnp.int32)
    this, other, first = keys[:, :, None], keys[:, None, :], at[None, None, :] < at[None, :, None]
    before = (other < this) | ((other == this) & first)
    place = jnp.sum(before, axis=2, dtype=jnp.int32)
    here = place[:, :, None] == at[None, None, :]
    return jnp.sum(jnp.where(here, at[None, :, None], 0), axis=1, dtype=jnp.int32)


def participant_words(
    public: Key, round_: Array, participant: Array, count: int, purpose: str
) -> UInt32[Array, "16 num_blocks"]:
    """At least `count` public words of one participant, by lane and block; `purpose` is the tag."""
    num_blocks = -(-count // 16)
    nonce = _nonce(round_, participant, tag(purpose))
    return blocks(public[None], jnp.arange(num_blocks, dtype=jnp.uint32), nonce[None])


def pool_words(public: Key, round_: Array, count: int) -> UInt32[Array, " count"]:
    """Public words of a round that order the pooled rows; nonce (r, 0xffffffff, "BTCH")."""
    return words(public, _nonce(round_, _EVERYBODY, tag("BTCH")), count)


def noise_key(chain: Key, participant: Array) -> Key:
    """The key of a participant's noise: first8(ChaCha20(S_r, 0, (id, 0, "LAPL")))."""
    return first8(chain, jnp.uint32(0), _nonce(participant, 0, tag("LAPL")))


def rounding_noise(
    public: Key,
    round_: Array,
    participants: Int32[Array, " T"],
    count: int,
    platform: str = "cpu",
    rolled: bool = False,
) -> Float32[Array, "T count"]:
    """Noise for stochastic rounding: uniform multiples of 2^-24 in [0, 1), a row per participant.

    On a CPU one reduce over a masked axis of two evaluates each block once for its 16 lanes
    (core/sharing/schedules/kernels.py says why); `rolled` compiles fast. Elsewhere a kernel draws.
    """
    ids, purpose, blocks_each = participants.astype(jnp.uint32), tag("RNDG"), -(-count // 16)

    def in_one_reduce() -> tuple[Array, ...]:
        shape = (len(ids), blocks_each, 2)
        key = [jnp.broadcast_to(word, shape) for word in public]
        member = lax.broadcast_in_dim(ids, shape, (0,))
        nonce = (jnp.broadcast_to(round_, shape), member, jnp.broadcast_to(purpose, shape))
        drawn = CHACHA20.block(key, lax.broadcasted_iota(jnp.uint32, shape, 1), nonce)
        once = jnp.uint32(1) - lax.broadcasted_iota(jnp.uint32, shape, 2)
        return sum_together([word * once for word in drawn], (2,))

    if platform != "cpu":
        given = (*public, round_, ids, purpose)
        keys = jnp.stack([jnp.broadcast_to(word, ids.shape) for word in given], axis=1)
        words = row_words(CHACHA20, keys, blocks_each, platform)
        lanes = tuple(words[:, i] for i in range(16))  # what follows does not fuse with a reshape
    elif rolled:
        words = jax.vmap(lambda i: participant_words(public, round_, i, count, "RNDG"))(ids)
        lanes = lax.optimization_barrier(tuple(jnp.moveaxis(words, 1, 0)))
    else:
        lanes = lax.optimization_barrier(in_one_reduce())
    drawn = jnp.concatenate(lanes, axis=1)[:, :count]
    return (drawn >> jnp.uint32(8)).astype(jnp.float32) * jnp.float32(2**-24)


def resampled_rows(
    public: Key, participant: Array, examples: int, total: int
) -> Int32[Array, " examples"]:
    """Draws `examples` of `total` rows with replacement, from the participant's id alone.

    Row = floor(word * total / 2^32): the high half of a 32 x 32 bit product, in uint32. The nonce
    (0, id, "ROWS") is our choice; the protocol leaves partitions open.
    """
    drawn = participant_words(public, jnp.uint32(0), participant, examples, "ROWS")
    return mul_high(drawn.reshape(-1)[:examples], jnp.uint32(total)).astype(jnp.int32)


def model_key(seed: int) -> Array:
    """The jax.random key of the model's initial parameters; uses both halves of the seed."""
    return start_of(seed).model
