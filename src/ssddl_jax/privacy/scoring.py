"""Scores: how near an attacker's images are to the truth, beside the mean image, with intervals."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Int32

from ssddl_jax.privacy.attack_inputs import Played, Surface
from ssddl_jax.privacy.attacks import images, linear_layer

_LEVEL = 0.95

# Of vectors [T, d] (mean updates) the attacker's images [T, 28, 28] and labels [T].
Guess = tuple[Float32[np.ndarray, "T 28 28"], Int32[np.ndarray, " T"]]


class Score(NamedTuple):
    """One attack on one surface, over all targets; intervals are of the mean, 95 %."""

    attack: str
    surface: str
    members: int
    claim: str
    mse: dict[str, float]
    psnr: dict[str, float]  # dB; with the median
    ssim: dict[str, float]
    label_accuracy: dict[str, float]
    over_mean_image: dict[str, float]  # dB above the mean image, pair by pair
    images: Float32[np.ndarray, "T 28 28"]
    each: Float32[np.ndarray, " T"]  # PSNR
    above: Float32[np.ndarray, " T"]  # PSNR less the mean image's
    whose: Int32[np.ndarray, " T"]  # the participant that each image is scored against

    @property
    def own(self) -> np.ndarray:
        """bool [T]: scored against the target itself (targets are 0..T-1)."""
        return self.whose == np.arange(len(self.whose))

    @property
    def beats_mean_image(self) -> bool:
        """Whether the whole interval lies above the mean image; one value has no interval."""
        return self.over_mean_image["low"] > 0 and self.over_mean_image["count"] > 1


class Leak(NamedTuple):
    """Share of the examples in a sum that its ReLU rows give to within 0.02 a pixel."""

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
    """Scores images against the nearest example of the participants in `whose`, and the mean
    image against that of those in `blind`, by default the same; with `blind` it is sums that are
    scored, each once.
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
    """The member of each sum whose example an image is nearest to: anybody's input is a leak."""
    found = []
    for image, members in zip(shown, surface.groups, strict=True):
        apart = np.mean(np.square(played.images[members] - image[None, None]), axis=(2, 3))
        found.append(members[int(np.argmin(apart.min(axis=1)))])
    return np.array(found)


def _nearest_example(shown: np.ndarray, whose: np.ndarray, played: Played) -> np.ndarray:
    """Of each participant's own examples the one that an image is nearest to."""
    own = played.images[whose]
    apart = np.mean(np.square(own - shown[:, None]), axis=(2, 3))
    return np.asarray(own[np.arange(len(whose)), np.argmin(apart, axis=1)])


def leak_of(played: Played, surface: Surface, batch: int) -> Leak:
    """How many of a sum's examples its rows give, by sum, with an interval over sums."""
    kernel, bias = linear_layer.first_layer(jnp.asarray(surface.vectors), played.params)
    candidates = linear_layer.row_candidates(kernel, bias)
    shares = []
    for at in distinct(surface):
        rows, members = candidates[at], surface.groups[at]
        truths = jnp.asarray(played.images[members].reshape(len(members) * batch, -1))
        shares.append(float(np.mean(np.asarray(linear_layer.recovered(rows, truths)))))
    return Leak(surface.members, batch, interval(shares))


def distinct(surface: Surface) -> list[int]:
    """Positions of the first of each group: targets of one sum are one observation of it."""
    first: dict[tuple[int, ...], int] = {}
    for at, members in enumerate(surface.groups):
        first.setdefault(tuple(sorted(members)), at)
    return list(first.values())


def interval(values: Any) -> dict[str, float]:
    """Mean, median, count, and the 95 % interval of the mean: bootstrap, fixed generator."""
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
