"""SGD on weights under additively homomorphic encryption (Phong et al. 2018).

The server holds E(W). Members take turns in slot order: each fetches E(W), decrypts it with the key
that all participants share, trains on its own data and sends E(update). The server adds it without
seeing it. Decryption gives exact integers, so the round computes with those: W and the updates in
fixed point, added in the wide ring. `lwe` and `paillier` compute ciphertexts; this file computes
what they decrypt to.

Our choices where the source leaves room: an update is a member's whole local training, not one
gradient. The source's SGD is asynchronous: participants work at the same time, each from weights
that others may have moved on since. Here they take turns and see no stale weights, so a round's
seconds and messages are those of one member after another; a note gives the seconds if all worked
at once. Coordinates are clipped as in SSDDL. A member re-encrypts W once per round, so a plaintext
must hold only the additions of one round and weights up to 2^22.
"""

from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree
from jaxtyping import UInt32

from ssddl_jax.baselines import lwe, lwe_cost, paillier
from ssddl_jax.baselines.base import Parts, Rival, after_round, info_of
from ssddl_jax.baselines.sequential import Vector, Visit, flat, trained, visit_all
from ssddl_jax.baselines.work import Cost, Work
from ssddl_jax.core.arithmetic.encoding import Encoding, encode_rows
from ssddl_jax.core.arithmetic.rings import RINGS, split
from ssddl_jax.core.learning.models import Params
from ssddl_jax.core.learning.population import Data
from ssddl_jax.core.records import Info, State
from ssddl_jax.core.round import SelectGroup

_WIDE = RINGS[64]
_LWE_SLICE, _PAILLIER_SLICE = 256, 130  # coordinates that are encrypted to time it
_MOST = float(1 << 22)  # weights are clipped to this: it leaves room in a plaintext


def phong(parts: Parts) -> Rival:
    """The round under both schemes, which differ in their ciphertexts only."""
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
        info = info_of(state, after, group, *visits)
        return after_round(state, after, held), info

    def server_state(params: Params) -> UInt32[Array, " 2d"]:
        return first_words(ravel_pytree(params)[0], encoding)

    return Rival(step, server_state)


def message(change: Vector, encoding: Encoding) -> tuple[UInt32[Array, " 2d"], Array, Array]:
    """(plaintext, whether the update is finite, how many coordinates were clipped).

    The plaintext is the clipped update in fixed point, low limbs then high limbs; zeros if the
    update is not finite.
    """
    one = jnp.ones(1, jnp.uint32)
    words, finite, clipped = encode_rows(change[None], one, encoding._replace(ring_bits=64))
    low, high = split(words[0])
    return jnp.concatenate([low[:-1], high[:-1]]), finite[0], clipped[0]


def first_words(params: Vector, encoding: Encoding) -> UInt32[Array, " 2d"]:
    """The initial weights, rounded to fixed point.

    Whole parts and fractions are encoded separately, because 2^f times a weight may exceed 32 bits.
    """
    scale = 1 << encoding.fraction_bits
    held = jnp.clip(jnp.nan_to_num(params), -_MOST, _MOST)
    whole = jnp.rint(held)  # ties go to even, also for f = 0
    rest = jnp.rint((held - whole) * jnp.float32(scale))  # exact up to here
    shifted = _WIDE.encode(whole.astype(jnp.int32), jnp.uint32(scale))
    return _WIDE.add(shifted, _WIDE.encode(rest.astype(jnp.int32), jnp.uint32(1)))


def decrypted(held: UInt32[Array, " 2d"], encoding: Encoding) -> Vector:
    """The weights f32 [d] that the fixed-point integers represent."""
    scale: Any = jnp.float32(2.0**-encoding.fraction_bits)
    return _WIDE.lift(held) * scale


def lwe_work(config: Any, dimension: int, train_seconds: float) -> Work:
    """Work with LWE ciphertexts."""
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
    """Work with Paillier ciphertexts. Raises `ConfigError` if its extra is not installed."""
    width = min(_PAILLIER_SLICE, dimension)
    found = paillier.measure(width)
    encrypt, decrypt, add = (
        dimension * found[f"{what}_seconds_per_coordinate"]
        for what in ("encrypt", "decrypt", "add")
    )
    operations = 2 * paillier.multiplications(dimension)  # encryption, decryption
    member = Cost(train_seconds, encrypt + decrypt, 0, operations)
    server = Cost(0.0, config.group * add, 0, config.group * paillier.ciphertexts(dimension))
    return encrypted(member, server, dimension, width, encrypt, bool(found["exact"]))


def encrypted(
    member: Cost, server: Cost, dimension: int, width: int, encrypt: float, exact: bool
) -> Work:
    """A round under encryption, in which one member re-encrypts the model and sends it.

    `encrypt`: seconds to encrypt the model.
    """
    at_once = member.seconds + encrypt + server.seconds
    note = (
        f"if all members worked at once, a round would take {at_once:.3g} s; encryption timed on "
        f"{width:,} of {dimension:,} coordinates and scaled; once per round a member re-encrypts "
        "the model, which counts in the round's seconds and messages, not in the bytes of a member"
    )
    return Work(member, server, note=note, exact=exact, renewal=encrypt)
