"""`ssddl attack`: every attack on every surface, over many targets, beside the mean image.

A study plays real rounds twice (`surfaces`): with the `mlp`, whose first dense layer leaks its
input, and with the net that gradient matching is shown on. What is attacked comes from views; the
truth serves only to score. Every number has an interval over the targets.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Int32
from scipy.stats import bootstrap  # type: ignore[attr-defined]

from ssddl_jax.config import Config
from ssddl_jax.errors import ConfigError
from ssddl_jax.population import Data, load_data
from ssddl_jax.privacy import across_rounds, exposure
from ssddl_jax.privacy.attacks import images, labels, linear_layer, matching
from ssddl_jax.privacy.attacks.lenet import LENET
from ssddl_jax.privacy.surfaces import Played, Surface, play, surfaces_of

SIZES = (2, 3, 5, 10, 25, 50, 100)
DLG_STEPS, DLG_RESTARTS, INVERSION_STEPS = 150, 2, 500
_DIFFERENCING = 1.3  # rounds for each participant, at least: then sums determine everybody
_LEVEL = 0.95

# Of vectors [T, d] (mean updates) the attacker's images [T, 28, 28] and labels [T].
Guess = tuple[Float32[np.ndarray, "T 28 28"], Int32[np.ndarray, " T"]]


class Score(NamedTuple):
    """One attack on one surface, over all targets; intervals are of the mean, 95 %."""

    attack: str
    surface: str
    members: int
    covered: bool
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
        """Whether the whole interval lies above the mean image."""
        return self.over_mean_image["low"] > 0


class Leak(NamedTuple):
    """Share of the examples in a sum that its ReLU rows give to within 0.02 a pixel."""

    members: int
    batch: int
    share: dict[str, float]


class Study(NamedTuple):
    """All that a study found."""

    config: Config
    truths: Float32[np.ndarray, "T 28 28"]
    mean_image: Score  # beside the targets themselves
    scores: list[Score]
    leaks: list[Leak]
    recovered: list[across_rounds.Recovered]
    coalitions: dict[str, exposure.Exposure]
    rounds: dict[str, exposure.Exposure]
    seconds: float


def check(config: Config, targets: int, sizes: list[int]) -> None:
    """Refuses what cannot be studied."""
    if not 2 <= targets <= config.participants:
        remedy = f"must be 2..{config.participants} (participants): intervals need two"
        raise ConfigError("targets", targets, remedy)
    for size in sizes:
        if not 2 <= size <= config.participants:
            remedy = f"must be 2..{config.participants} (participants)"
            raise ConfigError("sizes", size, remedy)
    if config.group >= config.participants:
        remedy = f"must be below participants = {config.participants}: groups must change"
        raise ConfigError("group_size", config.group, remedy)


def study(
    config: Config, targets: int, sizes: list[int], tell: Callable[[str], None] = lambda _: None
) -> Study:
    """Plays, attacks, scores. `config` as `attack_config` makes it; targets are ids 0..T-1."""
    check(config, targets, sizes)
    begin = time.perf_counter()
    data = load_data(config)
    ids = list(range(targets))
    tell(f"rounds of {config.group} of {config.participants} participants, mlp")
    played = play(config, "mlp", data, least=int(_DIFFERENCING * config.participants))
    dense = surfaces_of(played, ids, sizes, config.seed)
    truths, average = played.images[ids, 0], _mean_image(data)
    middle = Surface("mean image", 0, True, np.zeros((targets, 0), np.float32), [])
    commonest = np.full(targets, np.bincount(data.labels).argmax(), np.int32)
    guess = (np.broadcast_to(average, truths.shape), commonest)
    base = _score("mean image", middle, guess, np.array(ids), played, average)
    scores = []
    for surface in dense:
        guess = _dense_guess(linear_layer.input_of, surface, played, data.classes)
        scores.append(_score("linear layer", surface, guess, np.array(ids), played, average))
    for surface in dense:
        guess = _dense_guess(linear_layer.presented, surface, played, data.classes)
        whose = _nearest(guess[0], surface, played)
        blind = _nearest(np.broadcast_to(average, truths.shape), surface, played)
        scores.append(_score("relu rows", surface, guess, whose, played, average, blind))
    tell("rounds with the net of DLG")
    deep = play(replace(config, selection="rotate"), LENET, data)
    small = surfaces_of(deep, ids, sizes, config.seed)
    for name, match in (("dlg", _dlg), ("inverting gradients", _invert)):
        tell(f"{name}: {targets} targets, {len(small)} surfaces")
        for surface, guess in zip(small, _matched(match, small, deep, config), strict=True):
            scores.append(_score(name, surface, guess, np.array(ids), deep, average))
    tell("differencing, late uploads, exposure")
    recovered = [across_rounds.differencing(played, ids)]
    recovered += [across_rounds.late_upload(config, data, rule) for rule in ("retry", "reveal")]
    coalitions, rounds = exposures(config)
    return Study(
        config,
        truths,
        base,
        scores,
        [leak_of(played, surface, 1) for surface in dense if surface.name.startswith("sum")],
        recovered,
        coalitions,
        rounds,
        time.perf_counter() - begin,
    )


def attack_config(config: Config, batch: int = 1) -> Config:
    """The config of a study's rounds: E = `batch` examples each, one local step."""
    return replace(
        config,
        model="mlp",
        partition=f"resample:{batch}",
        batch_size=batch,
        local_epochs=1,
        rounds=max(100, 10 * config.participants),
    )


def leak_of(played: Played, surface: Surface, batch: int) -> Leak:
    """How many of a sum's examples its rows give, by sum, with an interval over sums."""
    kernel, bias = linear_layer.first_layer(jnp.asarray(surface.vectors), played.params)
    candidates = linear_layer.row_candidates(kernel, bias)
    shares = []
    for rows, members in zip(candidates, surface.groups, strict=True):
        truths = jnp.asarray(played.images[members].reshape(len(members) * batch, -1))
        shares.append(float(np.mean(np.asarray(linear_layer.recovered(rows, truths)))))
    return Leak(surface.members, batch, interval(shares))


def exposures(
    config: Config,
) -> tuple[dict[str, exposure.Exposure], dict[str, exposure.Exposure]]:
    """Who is determined against coalition size (n = 25), and against rounds (N = 40, n = 10)."""
    size, people = 25, 40
    coalitions = {
        "complete graph": exposure.by_coalition(size, size - 1, 5, config.seed),
        "ring, 8 partners": exposure.by_coalition(size, 8, 40, config.seed),
        "ring, 4 partners": exposure.by_coalition(size, 4, 40, config.seed),
    }
    seeds = [config.seed + i for i in range(5)]
    rounds = {
        name: exposure.by_round(people, people // 4, name, 80, seeds)
        for name in ("random", "rotate")
    }
    return coalitions, rounds


def interval(values: Any) -> dict[str, float]:
    """Mean, median and the 95 % interval of the mean: bootstrap, from a fixed generator."""
    values = np.asarray(values, np.float64)
    mean = float(values.mean())
    low = high = mean
    if len(values) > 1 and np.ptp(values) > 0:
        drawn = bootstrap(
            (values,),
            np.mean,
            confidence_level=_LEVEL,
            n_resamples=2000,
            method="percentile",
            rng=np.random.default_rng(0),
        )
        low, high = (float(end) for end in drawn.confidence_interval)
    return {"mean": mean, "low": low, "high": high, "median": float(np.median(values))}


def _mean_image(data: Data) -> np.ndarray:
    scale = 255 if data.images.dtype == np.uint8 else 1
    return np.asarray(data.images.mean(axis=0) / scale, np.float32)


def _score(
    attack: str,
    surface: Surface,
    guess: Guess,
    whose: np.ndarray,
    played: Played,
    average: np.ndarray,
    blind: np.ndarray | None = None,
) -> Score:
    """Scores images against the examples of the participants in `whose`, and the mean image
    against those in `blind`, which by default are the same.
    """
    blind = whose if blind is None else blind
    truths, shown = played.images[whose, 0], np.clip(np.asarray(guess[0]), 0, 1)
    mse, psnr, ssim = (np.asarray(f(shown, truths)) for f in (images.mse, images.psnr, images.ssim))
    behind = np.broadcast_to(average, truths.shape)
    base = np.asarray(images.psnr(behind, played.images[blind, 0]))
    return Score(
        attack,
        surface.name,
        surface.members,
        surface.covered,
        interval(mse),
        interval(psnr),
        interval(ssim),
        interval(guess[1] == played.labels[np.arange(len(whose)), 0]),
        interval(psnr - base),
        shown,
        psnr,
        psnr - base,
        whose,
    )


def _nearest(shown: np.ndarray, surface: Surface, played: Played) -> np.ndarray:
    """The member of each sum whose example an image is nearest to: anybody's input is a leak."""
    found = []
    for image, members in zip(shown, surface.groups, strict=True):
        apart = np.mean(np.square(played.images[members, 0] - image[None]), axis=(1, 2))
        found.append(members[int(np.argmin(apart))])
    return np.array(found)


def _dense_guess(
    attack: Callable[..., jax.Array], surface: Surface, played: Played, classes: int
) -> Guess:
    vectors = jnp.asarray(surface.vectors)
    kernel, bias = linear_layer.first_layer(vectors, played.params)
    found = np.asarray(attack(kernel, bias)).reshape(-1, 28, 28)
    return found, np.asarray(labels.label_of(-labels.last_bias(vectors, played.params, classes)))


def _matched(
    match: Callable[..., jax.Array], surfaces: list[Surface], deep: Played, config: Config
) -> list[Guess]:
    """A call for each surface, of one compiled program; gradients are -update / learning rate."""
    found = []
    for surface in surfaces:
        gradients = jnp.asarray(surface.vectors) / jnp.float32(-config.learning_rate)
        named = labels.label_of(labels.last_bias(gradients, deep.params, 10))
        shown = np.asarray(match(deep.params, gradients, named, jax.random.key(1)))
        found.append((shown, np.asarray(named)))
    return found


def _dlg(params: Any, gradients: jax.Array, named: jax.Array, key: jax.Array) -> jax.Array:
    return matching.dlg(LENET, params, gradients, named, key, DLG_STEPS, DLG_RESTARTS)[0]


def _invert(params: Any, gradients: jax.Array, named: jax.Array, key: jax.Array) -> jax.Array:
    return matching.invert(LENET, params, gradients, named, key, INVERSION_STEPS)
