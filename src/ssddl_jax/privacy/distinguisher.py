"""The indistinguishability game: a classifier guesses which of two worlds a view comes from.

World 0 and world 1 are two sets of messages of a group. Their sums are equal, so what the server is
meant to learn does not separate them. The sharing code of a round produces the uploads of each
world many times, under fresh chains. A classifier trains on half of the views and is scored on the
other half by the area under the ROC curve (AUC): 0.5 is guessing, 1 is certainty.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from jaxtyping import Bool, Float32, Float64, UInt32
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from ssddl_jax.core.arithmetic.chacha import first8, tag
from ssddl_jax.core.arithmetic.randomness import initial_chain, public_key
from ssddl_jax.core.sharing.base import Attempt, Messages, Scheme, Sharing

_BYTES = (0, 8, 16, 24)  # shifts of a word's bytes
_SIDE_BY_SIDE = 200  # views computed in one vectorised step
_HIDDEN = 16
_BATCH = 250
_EPOCHS = 6
_RATE = 1e-3
_DECAY = 1.0  # strong: without a fault views are noise, which should not be fitted


class Distinguished(NamedTuple):
    """How well the classifier separated the held-out views."""

    auc: float
    error: float  # standard error of `auc`
    held_out: int  # views of both worlds that were not trained on


def auc(scores: ArrayLike, labels: ArrayLike) -> tuple[float, float]:
    """Area under the ROC curve, and its standard error.

    Computed from ranks; a tie counts one half. The standard error is that of Hanley and McNeil
    (1982): it assumes independent scores and is 0 at an area of exactly 0 or 1.

    Args: scores [m]; labels [m], true for those that should score higher. Raises `ValueError` if
    the lengths differ or all labels are equal.
    """
    values, positive = np.asarray(scores, np.float64), np.asarray(labels, bool)
    if values.ndim != 1 or values.shape != positive.shape:
        raise ValueError(
            f"Argument 'labels' must be as long as scores {values.shape}, not {positive.shape}."
        )
    ones = int(positive.sum())
    zeros = positive.size - ones
    if not ones or not zeros:
        raise ValueError(f"Argument 'labels' must hold both kinds, not {ones} of {positive.size}.")
    ranks: Float64[np.ndarray, " m"] = rankdata(values)
    area = (float(ranks[positive].sum()) - ones * (ones + 1) / 2) / (ones * zeros)
    square = area * area
    spread = area * (1 - area)
    spread += (ones - 1) * (area / (2 - area) - square)
    spread += (zeros - 1) * (2 * square / (1 + area) - square)
    return area, float(np.sqrt(max(spread, 0.0) / (ones * zeros)))


def chains(seed: int, count: int) -> UInt32[Array, "count 8"]:
    """Independent chain states: words 0..7 of ChaCha20 under S_0 (seed), nonce (i, 0, "VIEW")."""
    return _chains(initial_chain(seed), count)


@partial(jax.jit, static_argnums=1)
def _chains(key: UInt32[Array, "8"], count: int) -> UInt32[Array, "count 8"]:
    numbers = jnp.arange(count, dtype=jnp.uint32)
    zeros = jnp.zeros_like(numbers)
    nonce = jnp.stack([numbers, zeros, jnp.full_like(numbers, tag("VIEW"))], axis=1)
    return first8(key[None], zeros, nonce)


def uploads(
    builder: Callable[[Scheme], Sharing],
    scheme: Scheme,
    messages: UInt32[Array, "n W"],
    chains: UInt32[Array, "count 8"],
    members: Bool[Array, " n"] | None = None,
) -> UInt32[Array, "count n W"]:
    """What the server receives when the same messages are shared under each of the chains.

    `builder` makes the scheme, as in a round; the public graph is the same for all chains.
    `members`: who deals shares (default: all); everybody uploads. With one dealer under `shamir`,
    upload j is holder j's share of its message, so a view of some columns is what a coalition of
    holders has.
    """
    deal = jnp.ones(scheme.size, bool) if members is None else members
    return _uploads(builder, scheme, messages, chains, deal)


@partial(jax.jit, static_argnums=(0, 1))
def _uploads(
    builder: Callable[[Scheme], Sharing],
    scheme: Scheme,
    messages: UInt32[Array, "n W"],
    chains: UInt32[Array, "count 8"],
    deal: Bool[Array, " n"],
) -> UInt32[Array, "count n W"]:
    sharing = builder(scheme)
    dealt = jnp.where(deal[:, None], messages, jnp.uint32(0))
    given = Messages(scheme.ring.sum(dealt), jnp.zeros(scheme.width, jnp.uint32), dealt)

    def view(chain: UInt32[Array, "8"]) -> UInt32[Array, "n W"]:
        attempt = Attempt(
            chain=chain,
            public=public_key(0),
            round=jnp.uint32(0),
            number=jnp.uint32(0),
            ids=jnp.arange(scheme.size, dtype=jnp.uint32),
            members=deal,
            alive=jnp.ones(scheme.size, bool),
        )
        each = sharing.share(attempt, given).each
        assert each is not None
        return each

    return lax.map(view, chains, batch_size=_SIDE_BY_SIDE)


def features(views: UInt32[Array, "views *rounds members W"]) -> Float32[Array, "views F"]:
    """The classifier's inputs: every word as a signed number, its bytes, its highest and lowest
    bit; the differences between members, and between rounds if a view holds several.

    Differences are taken in the ring of 2^32 before they become numbers. Small rings and the field
    are embedded in it; their differences lose only the wrap, which the bits show.
    """
    rounds = views if views.ndim == 4 else views[:, None]
    count, times, members, _ = rounds.shape
    kinds = [_signed(rounds)]
    kinds += [((rounds >> jnp.uint32(s)) & jnp.uint32(0xFF)).astype(jnp.float32) for s in _BYTES]
    kinds += [((rounds >> jnp.uint32(s)) & jnp.uint32(1)).astype(jnp.float32) for s in (31, 0)]
    kinds += [_signed(rounds[:, :, a] - rounds[:, :, b]) for a, b in _pairs(members)]
    kinds += [_signed(rounds[:, a] - rounds[:, b]) for a, b in _pairs(times)]
    return jnp.concatenate([kind.reshape(count, -1) for kind in kinds], axis=1)


def _signed(words: Array) -> Array:
    """Words as signed numbers in [-1, 1)."""
    return lax.bitcast_convert_type(words, jnp.int32).astype(jnp.float32) * jnp.float32(2**-31)


def _pairs(count: int) -> list[tuple[int, int]]:
    return [(a, b) for a in range(count) for b in range(a)]


def distinguish(world0: ArrayLike, world1: ArrayLike, seed: int = 0) -> Distinguished:
    """Trains on the even views of two worlds and classifies the odd ones.

    The classifier is a logistic regression plus a small network of one hidden layer, trained
    together by AdamW on standardised `features`. All randomness comes from the seed.

    Args: u32 [views, members, W] or [views, rounds, members, W], the same shape for both worlds.
    Raises `ValueError` if the shapes differ or there are fewer than two views.
    """
    first, second = np.asarray(world0), np.asarray(world1)
    if first.shape != second.shape or first.ndim not in (3, 4) or first.shape[0] < 2:
        raise ValueError(
            "Arguments 'world0' and 'world1' must be [views, members, W] or "
            f"[views, rounds, members, W] of one shape, not {first.shape} and {second.shape}."
        )
    half = first.shape[0] // 2
    views = [np.concatenate([w[s : 2 * half : 2] for w in (first, second)]) for s in (0, 1)]
    labels = np.repeat(np.array([0, 1], np.float32), half)
    held = _held_out_scores(views[0], labels, views[1], jax.random.key(np.uint32(seed)))
    area, error = auc(np.asarray(held), labels > 0)
    return Distinguished(area, error, 2 * half)


@jax.jit
def _held_out_scores(
    seen: UInt32[Array, "views *rounds members W"],
    labels: Float32[Array, " views"],
    held: UInt32[Array, "views *rounds members W"],
    key: Array,
) -> Float32[Array, " views"]:
    """Logits of the held-out views; a high one means world 1."""
    shown = features(seen)
    mean = jnp.mean(shown, axis=0)
    deviation = jnp.std(shown, axis=0)
    scale = jnp.where(deviation > 1e-6, 1 / jnp.maximum(deviation, 1e-6), jnp.float32(0))

    def standardised(rows: Array) -> Array:
        return (rows - mean[None]) * scale[None]

    start, order = jax.random.split(key)
    params = _trained(_initial(start, shown.shape[1]), standardised(shown), labels, order)
    return _logits(params, standardised(features(held)))


def _initial(key: Array, width: int) -> dict[str, Array]:
    inner = jax.random.normal(key, (width, _HIDDEN), jnp.float32) / np.float32(np.sqrt(width))
    return {
        "linear": jnp.zeros(width, jnp.float32),
        "inner": inner,
        "bias": jnp.zeros(_HIDDEN, jnp.float32),
        "outer": jnp.zeros(_HIDDEN, jnp.float32),
    }


def _logits(params: dict[str, Array], rows: Array) -> Array:
    hidden = jnp.tanh(rows @ params["inner"] + params["bias"][None])
    return rows @ params["linear"] + hidden @ params["outer"]


def _trained(params: dict[str, Array], rows: Array, labels: Array, key: Array) -> dict[str, Array]:
    """A few epochs of AdamW on the logistic loss."""
    optimizer = optax.adamw(_RATE, weight_decay=_DECAY)
    count = rows.shape[0]
    batch = min(_BATCH, count)
    steps = count // batch

    def loss(params: dict[str, Array], chosen: Array) -> Array:
        logits = _logits(params, rows[chosen])
        return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, labels[chosen]))

    def step(state: tuple[Any, Any], chosen: Array) -> tuple[tuple[Any, Any], None]:
        params, memory = state
        gradient = jax.grad(loss)(params, chosen)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes floats with counts
            change, memory = optimizer.update(gradient, memory, params)
        return (optax.apply_updates(params, change), memory), None

    keys = jax.random.split(key, _EPOCHS)
    orders = jax.vmap(lambda key: jax.random.permutation(key, count))(keys)
    chosen = orders[:, : steps * batch].reshape(_EPOCHS * steps, batch)
    (params, _), _ = lax.scan(step, (params, optimizer.init(params)), chosen)
    return params
