"""The picture of a study: what the attacker reconstructs, and how leakage grows."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from ssddl_jax.privacy.scoring import Score
from ssddl_jax.privacy.study import Study

_CLEAR = 3.0  # dB above the mean image
_WHOLE = 34.0  # dB: every pixel within 0.02, the tolerance for ReLU rows
_INK, _RED, _GREEN = "#222222", "#b2182b", "#1b7837"


def draw(study: Study, path: Path) -> None:
    """Writes a PNG: images of the original and of each surface with their PSNR; exposure below."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    by_attack = {
        name: [s for s in study.scores if s.attack == name]
        for name in dict.fromkeys(s.attack for s in study.scores)
    }
    shown = [(name, _typical(scores), scores) for name, scores in by_attack.items()]
    shown[2:2] = [("relu rows", (shown[1][1] + 1) % len(study.truths), by_attack["relu rows"])]
    columns = 1 + len(shown[0][2])
    figure = pyplot.figure(figsize=(1.18 * columns, 1.5 * len(shown) + 4.6), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=[1.5 * len(shown), 4.2])
    top, bottom = parts
    axes = top.subplots(len(shown), columns)
    for axis, title in zip(axes[0], ["original", *(s.surface for s in shown[0][2])], strict=True):
        axis.set_title(title, fontsize=8)
    for row, (name, target, scores) in zip(axes, shown, strict=True):
        _image(row[0], study.truths[target], f"{name}\ntarget {target}", _INK)
        for axis, score in zip(row[1:], scores, strict=True):
            _image(axis, score.images[target], *_label(score, target))
    base = study.mean_image.psnr["mean"]
    top.suptitle(
        f"What an attacker reconstructs of one target: PSNR in dB (mean image: {base:.1f} on "
        "average; red: a leak)",
        fontsize=10,
    )
    _curves(bottom, study)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _image(axis: Any, image: np.ndarray, label: str, color: str) -> None:
    axis.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_xlabel(label, fontsize=8, color=color, labelpad=2)


def _label(score: Score, target: int) -> tuple[str, str]:
    psnr = float(score.each[target])
    leaks = psnr >= _WHOLE if score.attack == "relu rows" else score.above[target] >= _CLEAR
    text = "exact" if psnr >= 60 else f"{psnr:.1f}"
    return text + ("" if score.own[target] else ", another member's"), _RED if leaks else _GREEN


def _typical(scores: list[Score]) -> int:
    """The target with the median PSNR when its plain update is attacked."""
    return int(np.argsort(scores[0].each, kind="stable")[len(scores[0].each) // 2])


def _curves(figure: Any, study: Study) -> None:
    coalition, rounds, sums = figure.subplots(1, 3)
    for name, found in study.coalitions.items():
        coalition.plot(found.at, found.mean, marker=".", label=name)
    size = max(found.at[-1] for found in study.coalitions.values()) + 1
    coalition.set(
        xlabel=f"members that collude with the server, of a group of {size}",
        title="honest members determined in one round",
    )
    for name, found in study.rounds.items():
        rounds.plot(found.at, found.mean, label=f"selection {name}")
        rounds.fill_between(found.at, found.least, found.most, alpha=0.2)
    rounds.set(
        xlabel="rounds; groups of 10 of 40, updates unchanged",
        title="participants determined by sums (differencing)",
    )
    at = [leak.members for leak in study.leaks]
    mean = [leak.share["mean"] for leak in study.leaks]
    ends = [[leak.share[end] for leak in study.leaks] for end in ("low", "high")]
    sums.semilogx(at, mean, marker="o", color=_RED)
    sums.fill_between(at, *ends, alpha=0.2, color=_RED)
    sums.set_xticks(at, [str(n) for n in at])
    sums.minorticks_off()
    batch = study.config.batch_size
    sums.set(xlabel=f"members in the sum, batch {batch}", title="inputs recovered from ReLU rows")
    for axis in (coalition, rounds, sums):
        axis.set_ylim(-0.03, 1.03)
        axis.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        axis.title.set_fontsize(10)
        axis.grid(alpha=0.3)
    coalition.legend(fontsize=8)
    rounds.legend(fontsize=8)
