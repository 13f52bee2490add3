"""SGD on weights under additively homomorphic encryption (Phong et al. 2018).

The server holds E(W). Members in turn (slot order) fetch and decrypt it with the key that all
participants share, train on their own data, and send E(update), which the server adds without
seeing it. Decryption gives exact integers, so the round follows those: W and updates in fixed
point, added in the wide ring. Ciphertexts themselves are made in `lwe` and `paillier`; what their
decryption yields is what is computed here.

Ours, where the source leaves room: an update is a member's whole local training, not one gradient;
coordinates are clipped like SSDDL's; members encrypt W anew once a round, so that a round's
additions are all that a plaintext must hold.
"""

from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree
from jaxtyping import UInt32

from ssddl_jax.encoding import Encoding, encode_rows
from ssddl_jax.models import Params
from ssddl_jax.population import Data
from ssddl_jax.rings import RINGS, split
from ssddl_jax.rivals.base import Parts, Rival, after_round, told
from ssddl_jax.rivals.in_turn import Vector, Visit, flat, trained, visit_all
from ssddl_jax.round import Info, SelectGroup, State

_WIDE = RINGS[64]
_MOST = float(1 << 22)  # weights beyond this are held at it: a plaintext's range, with room


def phong(parts: Parts) -> Rival:
    """The round of both schemes; they differ in ciphertexts only."""
    recipe = parts.recipe
    encoding = recipe.scheme.encoding

    def step(state: State, data: Data) -> tuple[State, Info]:
        group = SelectGroup(recipe, state)
        _, unravel = flat(state.params)

        def visit(held: Array, each: Visit) -> tuple[Array, tuple[Array, Array, Array]]:
            params = unravel(decrypted(held, encoding))
            change, loss = trained(recipe, state, data, params, each.participant)
            words, finite, clipped = message(change, encoding)
            added = _WIDE.add(held, jnp.where(each.arrives, words, jnp.uint32(0)))
            return added, (finite, clipped, loss)

        held, visits = visit_all(visit, state.server, group)
        after = unravel(decrypted(held, encoding))
        info = told(state, after, group, *visits)
        return after_round(state, after, held), info

    def memory(params: Params) -> UInt32[Array, " 2d"]:
        return first_words(ravel_pytree(params)[0], encoding)

    return Rival(step, memory)


def message(change: Vector, encoding: Encoding) -> tuple[UInt32[Array, " 2d"], Array, Array]:
    """A plaintext: the clipped update in fixed point, low limbs then high limbs; whether it is
    finite (zeros if not); how many coordinates the clip changed.
    """
    one = jnp.ones(1, jnp.uint32)
    words, finite, clipped = encode_rows(change[None], one, encoding._replace(ring_bits=64))
    low, high = split(words[0])
    return jnp.concatenate([low[:-1], high[:-1]]), finite[0], clipped[0]


def first_words(params: Vector, encoding: Encoding) -> UInt32[Array, " 2d"]:
    """The initial weights in fixed point: whole parts and fractions apart, as they may be large."""
    scale = jnp.float32(2.0**encoding.fraction_bits)
    held = jnp.clip(jnp.nan_to_num(params), -_MOST, _MOST)
    whole = jnp.floor(held)
    low = jnp.rint((held - whole) * scale).astype(jnp.uint32)
    return _WIDE.add(shifted(whole, encoding.fraction_bits), _padded(low))


def shifted(whole: Vector, bits: int) -> UInt32[Array, " 2d"]:
    """Whole numbers below 2^22 in magnitude times 2^bits, bits below 32, as wide words."""
    low = whole.astype(jnp.int32).astype(jnp.uint32)
    sign = jnp.where(whole < 0, jnp.uint32(0xFFFFFFFF), jnp.uint32(0))
    if bits == 0:
        return jnp.concatenate([low, sign])
    carried = (low >> jnp.uint32(32 - bits)) | (sign << jnp.uint32(bits))
    return jnp.concatenate([low << jnp.uint32(bits), carried])


def _padded(low: Array) -> Array:
    return jnp.concatenate([low, jnp.zeros_like(low)])


def decrypted(held: UInt32[Array, " 2d"], encoding: Encoding) -> Vector:
    """The weights that integers stand for."""
    scale: Any = jnp.float32(2.0**-encoding.fraction_bits)
    return _WIDE.lift(held) * scale
