"""SGD on weights under additively homomorphic encryption (Phong et al. 2018).

The server holds E(W). Members in turn (slot order) fetch and decrypt it with the key that all
participants share, train on their own data, and send E(update), which the server adds without
seeing it. Decryption gives exact integers, so the round follows those: W and updates in fixed
point, added in the wide ring. Ciphertexts themselves are made in `lwe` and `paillier`; what their
decryption yields is what is computed here.

Ours, where the source leaves room: an update is a member's whole local training, not one gradient;
coordinates are clipped like SSDDL's; members encrypt W anew once a round, so that a round's
additions, and weights up to 2^22, are all that a plaintext must hold.
"""

from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree
from jaxtyping import UInt32

from ssddl_jax.baselines import lwe, lwe_cost, paillier
from ssddl_jax.baselines.base import Parts, Rival, after_round, told
from ssddl_jax.baselines.sequential import Vector, Visit, flat, trained, visit_all
from ssddl_jax.baselines.work import Cost, Work
from ssddl_jax.core.arithmetic.encoding import Encoding, encode_rows
from ssddl_jax.core.arithmetic.rings import RINGS, split
from ssddl_jax.core.learning.models import Params
from ssddl_jax.core.learning.population import Data
from ssddl_jax.core.round import Info, SelectGroup, State

_WIDE = RINGS[64]
_LWE_SLICE, _PAILLIER_SLICE = 256, 130  # coordinates whose encryption is timed
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
            words, finite, clipped = message(flat(change)[0], encoding)
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
    """The initial weights to the nearest fixed point: whole parts and fractions apart, as 2^f times
    a weight need not fit 32 bits.
    """
    scale = 1 << encoding.fraction_bits
    held = jnp.clip(jnp.nan_to_num(params), -_MOST, _MOST)
    whole = jnp.rint(held)  # so that ties go to even, also where f = 0
    rest = jnp.rint((held - whole) * jnp.float32(scale))  # exact up to here
    shifted = _WIDE.encode(whole.astype(jnp.int32), jnp.uint32(scale))
    return _WIDE.add(shifted, _WIDE.encode(rest.astype(jnp.int32), jnp.uint32(1)))


def decrypted(held: UInt32[Array, " 2d"], encoding: Encoding) -> Vector:
    """The weights that integers stand for."""
    scale: Any = jnp.float32(2.0**-encoding.fraction_bits)
    return _WIDE.lift(held) * scale


def lwe_work(config: Any, dimension: int, train_seconds: float) -> Work:
    """Ciphertexts by learning with errors."""
    width = min(_LWE_SLICE, dimension)
    found = lwe_cost.measure(width)
    fixed = found["encrypt_fixed_seconds"]
    encrypt = fixed + dimension * found["encrypt_seconds_per_coordinate"]
    decrypt = dimension * found["decrypt_seconds_per_coordinate"]
    add = (dimension + lwe.PHONG.dimension) * found["add_seconds_per_coordinate"]
    operations = (2 * dimension + lwe.PHONG.dimension) * lwe.PHONG.dimension
    member = Cost(train_seconds, encrypt + decrypt, 0, operations)
    server = Cost(0.0, config.group * add)
    return encrypted(member, server, dimension, width, encrypt, bool(found["exact"]))


def paillier_work(config: Any, dimension: int, train_seconds: float) -> Work:
    """Ciphertexts by Paillier's scheme. Raises `ConfigError` where its extra is not installed."""
    width = min(_PAILLIER_SLICE, dimension)
    found = paillier.measure(width)
    encrypt, decrypt, add = (
        dimension * found[f"{what}_seconds_per_coordinate"]
        for what in ("encrypt", "decrypt", "add")
    )
    member = Cost(train_seconds, encrypt + decrypt, 0, 2 * paillier.ciphertexts(dimension))
    server = Cost(0.0, config.group * add)
    return encrypted(member, server, dimension, width, encrypt, bool(found["exact"]))


def encrypted(
    member: Cost, server: Cost, dimension: int, width: int, encrypt: float, exact: bool
) -> Work:
    """A round under encryption: the model is encrypted anew by one of the members, and sent once
    more.
    """
    note = (
        f"ciphertexts made on {width:,} of {dimension:,} coordinates, seconds scaled; once a "
        "round a member encrypts the model anew: in the round's seconds and messages, not in the "
        "bytes of a member"
    )
    return Work(member, server, note=note, exact=exact, renewal=encrypt)
