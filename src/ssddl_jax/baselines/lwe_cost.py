"""Seconds of Phong et al.'s LWE encryption on this machine, measured on a slice of an update."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ssddl_jax.baselines.lwe import (
    PHONG,
    Ciphertexts,
    Parameters,
    body,
    check_additions,
    decrypt,
    draw,
    generate,
    head,
    total,
    wide,
)


def measure(width: int, parameters: Parameters = PHONG, members: int = 4) -> dict[str, Any]:
    """Times the encryption of a slice of `width` coordinates by one participant.

    Returns median seconds of compiled, warm calls, and `exact`: whether the sum of `members`
    ciphertexts decrypted to the exact sum. The fixed part is c1 with its randomness. Raises
    `ConfigError` if the sum of `members` ciphertexts could wrap.
    """
    check_additions(members, 2**31 - 1, parameters)
    rng = np.random.default_rng(0)
    random = jnp.asarray(rng.integers(0, 2**32, (members + 1, 8), dtype=np.uint32))
    keys = jax.jit(generate, static_argnums=(0, 2))(parameters, random[-1], width)
    values = rng.integers(-(2**31) + 1, 2**31, (members, width)).astype(np.int32)
    messages = wide(jnp.asarray(values))
    drawn = jax.jit(draw, static_argnums=(0, 2))
    first, rest, added, opened = (jax.jit(step) for step in (head, body, total, decrypt))
    small = [drawn(parameters, random[i : i + 1], width) for i in range(members)]
    sealed = Ciphertexts(
        jnp.concatenate([first(keys, small[i]) for i in range(members)], axis=1),
        jnp.concatenate(
            [rest(keys, small[i], messages[i : i + 1]) for i in range(members)], axis=1
        ),
    )
    summed = added(sealed)
    limbs = np.asarray(opened(keys, summed)).astype(np.int64)
    sums = limbs[:, 0] + (limbs[:, 1].astype(np.int32).astype(np.int64) << 32)
    fixed, free = 2 * parameters.dimension, width  # random numbers
    draws = _seconds(drawn, parameters, random[:1], width) / (fixed + free)
    additions = (members - 1) * (parameters.dimension + width)
    return {
        "encrypt_fixed_seconds": _seconds(first, keys, small[0]) + draws * fixed,
        "encrypt_seconds_per_coordinate": _seconds(rest, keys, small[0], messages[:1]) / width
        + draws,
        "decrypt_seconds_per_coordinate": _seconds(opened, keys, summed) / width,
        "add_seconds_per_coordinate": _seconds(added, sealed) / additions,
        "exact": sums.tolist() == values.astype(np.int64).sum(axis=0).tolist(),
    }


def _seconds(call: Callable[..., Any], *arguments: Any) -> float:
    """Median seconds of a few warm calls."""
    taken = []
    for _ in range(4):
        begin = time.perf_counter()
        jax.block_until_ready(call(*arguments))
        taken.append(time.perf_counter() - begin)
    return float(np.median(taken[1:]))
