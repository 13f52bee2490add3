"""Where random words come from (docs/protocol.md, section 4): secret chain, public words.

The chain S_0, S_1, ... derives every pair key and is forward secure: the next state does not give
the last. Public words (selection, graph, batches, dropouts, rounding) come from another key, so
that nothing public depends on a secret one. All functions are traceable; rounds and ids may be
traced.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float32, Int32, UInt32

from ssddl_jax.core.arithmetic.chacha import blocks, first8, tag, words
from ssddl_jax.core.arithmetic.rings import mul_high

Key = UInt32[Array, "8"]
_P = 2**31 - 1
_EVERYBODY = 0xFFFFFFFF  # stands where a nonce names a participant


def _nonce(*parts: Array | int) -> UInt32[Array, "3"]:
    return jnp.stack([jnp.asarray(part, jnp.uint32) for part in parts])


def _seed_words(seed: int) -> np.ndarray:
    return np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint32)


class Start(NamedTuple):
    """What a run starts from."""

    chain: Key  # S_0
    public: Key  # R
    model: Array  # a jax.random key for the model's initial parameters


def start_of(seed: int) -> Start:
    """All that a seed gives, 0 <= seed < 2^64, by one small program."""
    words = jax.device_put(_seed_words(seed))
    traced = isinstance(words, jax.core.Tracer)  # inside a program no part has its own options
    return (_started if traced else _started_alone)(words)


def _started(words: UInt32[Array, "2"]) -> Start:
    nonces = jnp.stack([_nonce(0, 0, tag("INIT")), _nonce(0, 0, tag("RAND"))])
    chain, public = first8(jnp.pad(words, (0, 6))[None], jnp.zeros(1, jnp.uint32), nonces)
    model = jax.random.key(words[0], impl="threefry2x32")  # whatever JAX's default is
    return Start(chain, public, jax.random.fold_in(model, words[1]))


# It runs once and is made of whole numbers, which no level of optimisation changes.
_started_alone = jax.jit(_started, compiler_options={"xla_backend_optimization_level": "0"})


def initial_chain(seed: int) -> Key:
    """S_0 of a seed, 0 <= seed < 2^64."""
    return start_of(seed).chain


def next_chain(chain: Key) -> Key:
    """S_{r+1} of S_r; the old state is to be erased."""
    return first8(chain, jnp.uint32(0), _nonce(0, 0, tag("NEXT")))


def chain_at(chain: Key, steps: UInt32[Array, ""]) -> Key:
    """The state so many rounds on."""
    return jax.lax.fori_loop(jnp.uint32(0), steps, lambda _, state: next_chain(state), chain)


def public_key(seed: int) -> Key:
    """R of a seed: the key of all public randomness."""
    return start_of(seed).public


def pair_keys(
    chain: Key,
    attempt: UInt32[Array, ""],
    dealers: UInt32[Array, " *shape"],
    holders: UInt32[Array, " *shape"],
) -> UInt32[Array, "*shape 8"]:
    """K_{i->j} for dealers i and holders j (global ids) of this round's chain state."""
    return _keys(chain, attempt, dealers, holders, tag("PAIR"))


def ideal_keys(
    chain: Key, attempt: UInt32[Array, ""], ids: UInt32[Array, " *shape"]
) -> UInt32[Array, "*shape 8"]:
    """Keys of the uploads that engine ideal draws."""
    return _keys(chain, attempt, ids, jnp.zeros_like(ids), tag("IDEA"))


def coefficient_keys(
    chain: Key,
    attempt: UInt32[Array, ""],
    dealers: UInt32[Array, " *shape"],
    degrees: UInt32[Array, " *shape"],
) -> UInt32[Array, "*shape 8"]:
    """Keys of the coefficients of degree l = 1..t-1 of the dealers' polynomials."""
    return _keys(chain, attempt, dealers, degrees, tag("SHAM"))


def agreed_keys(
    secrets: UInt32[Array, "*shape 8"],
    attempt: UInt32[Array, ""],
    first: UInt32[Array, " *shape"],
    second: UInt32[Array, " *shape"],
) -> UInt32[Array, "*shape 8"]:
    """Keys that two members agree on, whichever comes first, from what stands for both their
    secrets: first8(ChaCha20(secrets, a, (lower id, higher id, "PAIR"))). Ours.
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
    """Eight elements of F_p, p = 2^31 - 1, for each participant; `index` u32 [*shape] tells several
    apart. Words 0..7 of ChaCha20(S_r, a, (id, index, purpose)) by mask to 31 bits; where that is p,
    words 8..15; if that is p, too (chance 2^-62), 0. Ours.
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
    """0..count-1 in the order of their SELE words: a round's, or a pass's, order of everybody."""
    drawn = words(public, _nonce(first, _EVERYBODY, tag("SELE")), count)
    return jnp.argsort(drawn, stable=True)


def selected(
    public: Key, round_: Array, size: int, everybody: int, selection: str
) -> Int32[Array, " size"]:
    """Ids of a round's group: `size` of `everybody` without replacement.

    `rotate`: a pass is floor(N / n) rounds over one shuffled order (what is left over, fewer than n
    participants, sits that pass out: our reading).
    """
    if size == everybody:
        return jnp.arange(size, dtype=jnp.int32)
    if selection == "random":
        return shuffled(public, round_, everybody)[:size]
    per_pass = jnp.uint32(everybody // size)
    order = shuffled(public, round_ // per_pass, everybody)
    start = (round_ % per_pass).astype(jnp.int32) * size
    return jax.lax.dynamic_slice(order, (start,), (size,))


def ring_words(public: Key, round_: Array, attempt: Array, count: int) -> UInt32[Array, " count"]:
    """GRPH words of an attempt, one a slot: members ordered by them stand in a ring."""
    return words(public, _nonce(round_, attempt, tag("GRPH")), count)


def vanished_slots(public: Key, round_: Array, size: int, vanishing: int) -> Bool[Array, " size"]:
    """The slots, exactly `vanishing` of them, that upload nothing in this round."""
    if not vanishing:
        return jnp.zeros(size, bool)
    order = jnp.argsort(words(public, _nonce(round_, _EVERYBODY, tag("DROP")), size), stable=True)
    return jnp.zeros(size, bool).at[order[:vanishing]].set(True)


def batch_order(
    public: Key, round_: Array, participant: Array, count: Array, epochs: int, most: int
) -> Int32[Array, "epochs most"]:
    """One permutation of a participant's `count` rows for each epoch; what lies beyond is padding.

    Word e * count + j orders row j in epoch e. `count` may be traced, at most `most`: the layout of
    the words depends on it, so they are looked up, not reshaped.
    """
    drawn = participant_words(public, round_, participant, epochs * most, "BTCH")
    position = jnp.arange(most, dtype=jnp.uint32)[None, :]
    count = count.astype(jnp.uint32)
    index = jnp.arange(epochs, dtype=jnp.uint32)[:, None] * count + position
    num_blocks = jnp.maximum((jnp.uint32(epochs) * count + jnp.uint32(15)) // jnp.uint32(16), 1)
    lane = jnp.minimum(index // num_blocks, 15)
    keys = drawn[lane, index % num_blocks]
    keys = jnp.where(position < count, keys, jnp.uint32(0xFFFFFFFF))
    return jnp.argsort(keys, axis=1, stable=True)


def participant_words(
    public: Key, round_: Array, participant: Array, count: int, purpose: str
) -> UInt32[Array, "16 num_blocks"]:
    """At least `count` public words of one participant, by lane and block."""
    num_blocks = -(-count // 16)
    nonce = _nonce(round_, participant, tag(purpose))
    return blocks(public[None], jnp.arange(num_blocks, dtype=jnp.uint32), nonce[None])


def pool_words(public: Key, round_: Array, count: int) -> UInt32[Array, " count"]:
    """Public words of a round that order pooled rows: nonce (r, 0xffffffff, "BTCH")."""
    return words(public, _nonce(round_, _EVERYBODY, tag("BTCH")), count)


def noise_key(chain: Key, participant: Array) -> Key:
    """The key of a participant's noise in a round: first8(ChaCha20(S_r, 0, (id, 0, "LAPL")))."""
    return first8(chain, jnp.uint32(0), _nonce(participant, 0, tag("LAPL")))


def rounding_noise(
    public: Key, round_: Array, participant: Array, count: int
) -> Float32[Array, " count"]:
    """u uniform in [0, 1), in steps of 2^-24, for stochastic rounding."""
    drawn = participant_words(public, round_, participant, count, "RNDG").reshape(-1)[:count]
    return (drawn >> jnp.uint32(8)).astype(jnp.float32) * jnp.float32(2**-24)


def resampled_rows(
    public: Key, participant: Array, examples: int, total: int
) -> Int32[Array, " examples"]:
    """`examples` rows of `total`, with replacement, computed from the participant's id alone.

    Row = floor(word * total / 2^32), by the high half of a 32 x 32 bit product in uint32.
    Our choice: nonce (0, id, "ROWS"); the protocol leaves partitions open.
    """
    drawn = participant_words(public, jnp.uint32(0), participant, examples, "ROWS")
    return mul_high(drawn.reshape(-1)[:examples], jnp.uint32(total)).astype(jnp.int32)


def model_key(seed: int) -> Array:
    """A jax.random key for the model's initial parameters, from both halves of the seed."""
    return start_of(seed).model
