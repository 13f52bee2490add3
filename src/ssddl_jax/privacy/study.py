"""`ssddl attack`: every attack on every surface, over many targets, compared with the mean image.

A study plays real rounds twice (`attack_inputs`): with the `mlp`, whose first dense layer leaks its
input, and with the network that gradient matching was published on. Attacks receive only what views
hold; the true images serve only to score them. Every score has an interval over the targets.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32

from ssddl_jax.config.config import Config
from ssddl_jax.config.rules import CHOICES, RULES
from ssddl_jax.core.learning.population import Data
from ssddl_jax.data.loading import load_data
from ssddl_jax.planning.requests import check_study
from ssddl_jax.privacy import across_rounds, exposure
from ssddl_jax.privacy.attack_inputs import Played, Surface, check_images, play, surfaces_of
from ssddl_jax.privacy.attack_memory import check_memory
from ssddl_jax.privacy.attacks import labels, linear_layer, matching
from ssddl_jax.privacy.attacks.lenet import LENET
from ssddl_jax.privacy.scoring import Guess, Leak, Score, leak_of, nearest, score_of
from ssddl_jax.simulation.build import build_simulation

DLG_STEPS, DLG_RESTARTS, INVERSION_STEPS = 150, 2, 500
_DIFFERENCING = 1.3  # rounds per participant, at least: the sums of small groups determine all


class Study(NamedTuple):
    """The results of a study."""

    config: Config
    truths: Float32[np.ndarray, "T 28 28"]
    mean_image: Score  # against the targets
    scores: list[Score]
    leaks: list[Leak]
    recovered: list[across_rounds.Recovered]
    coalitions: dict[str, exposure.Exposure]
    rounds: dict[str, exposure.Exposure]
    seconds: float


def study(
    config: Config, targets: int, sizes: list[int], progress: Callable[[str], None] = lambda _: None
) -> Study:
    """Plays the rounds, attacks the targets and scores the results.

    `config`: as `attack_config` makes it. `targets`: how many; they are participants 0..T-1.
    `sizes`: group sizes of the sums. `progress` is called with a line before each part. Raises
    `ConfigError`.
    """
    check_study(config, targets, sizes)
    begin = time.perf_counter()
    data = load_data(config)
    check_images(config, data)
    plan = build_simulation(config, None, data).plan  # refuses what cannot be played
    ids, least = list(range(targets)), 1
    if config.batch_size == 1:  # the study differences
        least = exposure.rounds_that_determine(
            config, ids, int(_DIFFERENCING * config.participants)
        )
    check_memory(config, plan, least)
    progress(f"rounds of {config.group} of {config.participants} participants, mlp")
    played = play(config, "mlp", data, least)
    dense = surfaces_of(played, ids, sizes, config.seed)
    truths, average = played.images[ids, 0], _mean_image(data)
    middle = Surface("mean image", 0, "", np.zeros((targets, 0), np.float32), [])
    commonest = np.full(targets, np.bincount(data.labels).argmax(), np.int32)
    guess = (np.broadcast_to(average, truths.shape), commonest)
    base = score_of("mean image", middle, guess, np.array(ids), played, average)
    scores = _layer_scores(dense, played, np.array(ids), average, data.classes)
    progress("rounds with the network of DLG")
    deep = play(replace(config, selection="rotate"), LENET, data)
    small = surfaces_of(deep, ids, sizes, config.seed)
    for name, match in (("dlg", _dlg), ("inverting gradients", _invert)):
        progress(f"{name}: {targets} targets, {len(small)} surfaces")
        for surface, guess in zip(small, _matched(match, small, deep, config), strict=True):
            scores.append(score_of(name, surface, guess, np.array(ids), deep, average))
    progress("differencing, late uploads, exposure")
    # With several examples rounding depends on their order: updates would differ between rounds.
    recovered = [across_rounds.differencing(played, ids)] if config.batch_size == 1 else []
    exposing = [name for name in CHOICES if not RULES[name].late_covered]
    recovered += [across_rounds.late_upload(config, data, rule) for rule in exposing]
    coalitions, rounds = exposures(config)
    sums = [surface for surface in dense if surface.name.startswith("sum")]
    return Study(
        config=config,
        truths=truths,
        mean_image=base,
        scores=scores,
        leaks=[leak_of(played, surface, config.batch_size) for surface in sums],
        recovered=recovered,
        coalitions=coalitions,
        rounds=rounds,
        seconds=time.perf_counter() - begin,
    )


def exposures(
    config: Config,
) -> tuple[dict[str, exposure.Exposure], dict[str, exposure.Exposure]]:
    """Who is determined by coalition size (n = 25), and by number of rounds (N = 40, n = 10)."""
    size, people = 25, 40
    coalitions = {
        "complete graph": exposure.by_coalition(size, size - 1, 5, config.seed),
        "ring, 8 partners": exposure.by_coalition(size, 8, 40, config.seed),
        "ring, 4 partners": exposure.by_coalition(size, 4, 40, config.seed),
    }
    seeds = [(config.seed + i) % 2**64 for i in range(5)]
    rounds = {
        name: exposure.by_round(people, people // 4, name, 80, seeds)
        for name in ("random", "rotate")
    }
    return coalitions, rounds


def _mean_image(data: Data) -> np.ndarray:
    scale = 255 if data.images.dtype == np.uint8 else 1
    return np.asarray(data.images.mean(axis=0) / scale, np.float32)


def _layer_scores(
    surfaces: list[Surface], played: Played, ids: np.ndarray, average: np.ndarray, classes: int
) -> list[Score]:
    """The linear-layer leak on every surface, then the ReLU rows on every surface."""
    scores = []
    for surface in surfaces:
        guess = _dense_guess(linear_layer.input_of, surface, played, classes)
        scores.append(score_of("linear layer", surface, guess, ids, played, average))
    for surface in surfaces:
        guess = _dense_guess(linear_layer.presented, surface, played, classes)
        whose = nearest(guess[0], surface, played)
        blind = nearest(np.broadcast_to(average, guess[0].shape), surface, played)
        scores.append(score_of("relu rows", surface, guess, whose, played, average, blind))
    return scores


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
    """One compiled program, called for each surface; a gradient is -update / learning rate."""
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
