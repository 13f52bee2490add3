"""A study as JSON and as Markdown tables."""

from functools import partial
from pathlib import Path
from typing import Any

from ssddl_jax.common.outputs import write_results
from ssddl_jax.common.text import shown
from ssddl_jax.privacy.across_rounds import Recovered
from ssddl_jax.privacy.attacks import images
from ssddl_jax.privacy.scoring import Leak, Score
from ssddl_jax.privacy.study import Study
from ssddl_jax.running.environment import device_name, versions

ROUNDS_NOTE = (
    "Every member takes one step on its own batch. The server's update is skipped, so all rounds "
    "start from the same parameters: the best case for the attacker. This is a simulation."
)

NEAREST_NOTE = (
    "`relu rows` and its mean image are scored against the member of the sum whose input is "
    "nearest, because any member's input is a leak. Everything else is scored against the target."
)

MATCHING_NOTE = (
    "`dlg` and `inverting gradients` search for one image: their failure on sums does not show "
    "that sums are safe (see the ReLU rows)."
)


def as_json(study: Study) -> dict[str, Any]:
    """All numbers of a study, as `attack.json` holds them."""
    config = study.config
    return {
        "settings": {
            "data": shown(config.data),
            "participants": config.participants,
            "group_size": config.group,
            "batch_size": config.batch_size,
            "learning_rate": config.learning_rate,
            "shares": config.shares,
            "prg": config.prg,
            "seed": config.seed,
            "targets": len(study.truths),
            "note": ROUNDS_NOTE,
        },
        "mean_image": score_json(study.mean_image),
        "attacks": [score_json(score) for score in study.scores],
        "recovered_share": [leak._asdict() for leak in study.leaks],
        "across_rounds": [
            {
                "what": found.name,
                "rounds": found.rounds,
                "targets": found.targets,
                "determined": found.determined,
                "exact": found.exact,
                "psnr": [float(x) for x in images.psnr(found.images, found.truths)],
            }
            for found in study.recovered
        ],
        "exposure_by_coalition": {name: e._asdict() for name, e in study.coalitions.items()},
        "exposure_by_round": {name: e._asdict() for name, e in study.rounds.items()},
        "seconds": study.seconds,
        "device": device_name(),
        "versions": versions(),
    }


def score_json(score: Score) -> dict[str, Any]:
    """One attack on one surface, without its images."""
    kept = score._asdict()
    del kept["images"], kept["above"]
    return {
        **kept,
        "each": [float(x) for x in score.each],
        "whose": [int(i) for i in score.whose],
        "beats_mean_image": score.beats_mean_image,
    }


def write(study: Study, directory: Path) -> dict[str, Any]:
    """Writes attack.json, attack.md and attack.png into a folder; returns what the JSON holds."""
    from ssddl_jax.privacy.figure import draw

    found = as_json(study)
    write_results(directory, "attack", found, markdown(study), partial(draw, study))
    return found


def markdown(study: Study) -> str:
    """The tables of `attack.md`."""
    base = study.mean_image.psnr
    lines = [
        f"{len(study.truths)} targets, batch {study.config.batch_size}; PSNR in dB, mean (95 % "
        f"interval); mean image: {_spread(base)}",
        "",
        "| attack | surface | claim | PSNR | SSIM | label (iDLG) | beats the mean image |",
        "|---|---|---|---:|---:|---:|---|",
    ]
    for s in study.scores:
        lines.append(
            f"| {s.attack} | {s.surface} | {s.claim} | {_spread(s.psnr)} "
            f"| {s.ssim['mean']:.2f} | {100 * s.label_accuracy['mean']:.0f} % "
            f"| {'YES' if s.beats_mean_image else 'no'} |"
        )
    lines += ["", NEAREST_NOTE, MATCHING_NOTE, "", *leak_table(study.leaks), ""]
    lines += [recovered_line(found) for found in study.recovered]
    if study.config.batch_size > 1:
        lines.append(
            "- differencing: not run; with batches a participant's updates differ in the last bit"
        )
    return "\n".join([*lines, "", ROUNDS_NOTE, ""])


def recovered_line(found: Recovered) -> str:
    """What came of an attack outside the assumptions, and what its messages left open."""
    line = f"- {found.name}: {found.exact} of {found.targets} updates recovered exactly"
    if found.rounds > 1:
        line += f", from the sums of {found.rounds} rounds"
    if found.determined < found.targets:
        line += f"; these determine {found.determined} of the {found.targets}"
    return line


def leak_table(leaks: list[Leak]) -> list[str]:
    """The recovered share: a row per batch size, a column per group size."""
    sizes = sorted({leak.members for leak in leaks})
    at = {(leak.batch, leak.members): leak for leak in leaks}
    head = " | ".join(f"n = {size}" for size in sizes)
    lines = [
        "Share of a sum's examples that its ReLU rows recover, every pixel within 0.02:",
        "",
        f"| batch | {head} |",
        "|---:|" + "---:|" * len(sizes),
    ]
    for batch in sorted({leak.batch for leak in leaks}):
        row = [at.get((batch, size)) for size in sizes]
        cells = ["" if leak is None else f"{100 * leak.share['mean']:.1f} %" for leak in row]
        lines.append(f"| {batch} | " + " | ".join(cells) + " |")
    return lines


def _spread(value: dict[str, float]) -> str:
    if value["count"] == 1:
        return f"{value['mean']:.1f} (one sum)"
    return f"{value['mean']:.1f} ({value['low']:.1f}, {value['high']:.1f})"
