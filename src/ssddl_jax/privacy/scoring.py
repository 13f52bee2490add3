"""Scores: how close an attacker's images are to the true ones, compared with the mean image."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Int32

from ssddl_jax.privacy.attack_inputs import Played, Surface
from ssddl_jax.privacy.attacks import images, linear_layer

_LEVEL = 0.95

# What an attack returns for vectors [T, d]: images [T, 28, 28] and labels [T].
Guess = tuple[Float32[np.ndarray, "T 28 28"], Int32[np.ndarray, " T"]]


class Score(NamedTuple):
    """One attack on one surface, over all targets; intervals are 95 % intervals of the mean."""

    attack: str
    surface: str
    members: int
    claim: str
    mse: dict[str, float]
    psnr: dict[str, float]  # dB
    ssim: dict[str, float]
    label_accuracy: dict[str, float]
    over_mean_image: dict[str, float]  # dB above the mean image, target by target
    images: Float32[np.ndarray, "T 28 28"]
    each: Float32[np.ndarray, " T"]  # PSNR
    above: Float32[np.ndarray, " T"]  # PSNR minus that of the mean image
    whose: Int32[np.ndarray, " T"]  # the participant that each image is scored against

    @property
    def own(self) -> np.ndarray:
        """bool [T]: scored against the target itself (targets are 0..T-1)."""
        return self.whose == np.arange(len(self.whose))

    @property
    def beats_mean_image(self) -> bool:
        """Whether the whole interval lies above the mean image; needs more than one value."""
        return self.over_mean_image["low"] > 0 and self.over_mean_image["count"] > 1


class Leak(NamedTuple):
    """The share of a sum's examples that its ReLU rows recover, every pixel within 0.02."""

    members: int
    batch: int
    share: dict[str, float]


def score_of(
    attack: str,
    surface: Surface,
    guess: Guess,
    whose: np.ndarray,
    played: Played,
    average: np.ndarray,
    blind: np.ndarray | None = None,
) -> Score:
    """Scores each image against the nearest example of the participant in `whose` [T].

    `average` f32 [28, 28] is the mean image. It is scored against the nearest example of the
    participant in `blind` [T], by default the same as `whose`. With `blind` every distinct sum is
    scored once, not every target.
    """
    shown = np.clip(np.asarray(guess[0]), 0, 1)
    truths = _nearest_example(shown, whose, played)
    mse, psnr, ssim = (np.asarray(f(shown, truths)) for f in (images.mse, images.psnr, images.ssim))
    behind = np.broadcast_to(average, truths.shape)
    seen = _nearest_example(behind, whose if blind is None else blind, played)
    base = np.asarray(images.psnr(behind, seen))
    named = np.any(guess[1][:, None] == played.labels[: len(whose)], axis=1)
    one_each = list(range(len(whose))) if blind is None else distinct(surface)
    return Score(
        attack,
        surface.name,
        surface.members,
        surface.claim,
        interval(mse[one_each]),
        interval(psnr[one_each]),
        interval(ssim[one_each]),
        interval(named),
        interval((psnr - base)[one_each]),
        shown,
        psnr,
        psnr - base,
        whose,
    )


def nearest(shown: np.ndarray, surface: Surface, played: Played) -> np.ndarray:
    """For each sum, the member whose example is nearest to the image: any member's is a leak."""
    found = []
    for image, members in zip(shown, surface.groups, strict=True):
        apart = np.mean(np.square(played.images[members] - image[None, None]), axis=(2, 3))
        found.append(members[int(np.argmin(apart.min(axis=1)))])
    return np.array(found)


def _nearest_example(shown: np.ndarray, whose: np.ndarray, played: Played) -> np.ndarray:
    """The participant's own example nearest to each image, f32 [T, 28, 28]."""
    own = played.images[whose]
    apart = np.mean(np.square(own - shown[:, None]), axis=(2, 3))
    return np.asarray(own[np.arange(len(whose)), np.argmin(apart, axis=1)])


def leak_of(played: Played, surface: Surface, batch: int) -> Leak:
    """The share of examples that ReLU rows recover, with an interval over distinct sums."""
    kernel, bias = linear_layer.first_layer(jnp.asarray(surface.vectors), played.params)
    candidates = linear_layer.row_candidates(kernel, bias)
    shares = []
    for at in distinct(surface):
        rows, members = candidates[at], surface.groups[at]
        truths = jnp.asarray(played.images[members].reshape(len(members) * batch, -1))
        shares.append(float(np.mean(np.asarray(linear_layer.recovered(rows, truths)))))
    return Leak(surface.members, batch, interval(shares))


def distinct(surface: Surface) -> list[int]:
    """The first position of each group: targets with the same sum are one observation."""
    first: dict[tuple[int, ...], int] = {}
    for at, members in enumerate(surface.groups):
        first.setdefault(tuple(sorted(members)), at)
    return list(first.values())


def interval(values: Any) -> dict[str, float]:
    """Mean, median, count, and the 95 % bootstrap interval of the mean, from a fixed generator."""
    values = np.asarray(values, np.float64)
    mean = float(values.mean())
    low = high = mean
    if len(values) > 1 and np.ptp(values) > 0:
        from scipy.stats import bootstrap  # type: ignore[attr-defined]

        drawn = bootstrap(
            (values,),
            np.mean,
            confidence_level=_LEVEL,
            n_resamples=2000,
            method="percentile",
            rng=np.random.default_rng(0),
        )
        low, high = (float(end) for end in drawn.confidence_interval)
    median = float(np.median(values))
    return {"mean": mean, "low": low, "high": high, "median": median, "count": len(values)}
