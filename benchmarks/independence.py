"""Can any of our tests tell an adversary's view of a real scheme from noise?

And do the same tests catch planted faults? The healthy cases and the faults are those of
`tests/planted_faults.py`, which no config can reach. Each case's views of two worlds of one sum go
to the classifier (`distinguish`), and world 0's to the statistics (`uniformity`); where masks may
come from small seeds, and in the healthy twin of that case, all seeds are tried too. Exits with 1
if a healthy case is told from noise or a fault is not. `--tiny` tells its verdicts only: its views
are too few for the margin.
"""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import measure

TESTS = Path(__file__).resolve().parent.parent / "tests"
MARGIN = 0.02  # of a healthy case's AUC around 0.5
CAUGHT = 0.9
REJECTED = 1e-6
SEARCHED = {"small-seeds": 500, "byte-residuals": 2500}  # views of each world
CHANCE = 4.0  # standard errors that a healthy case's seed search may be off: its views are fewer
TINY = ("directed", "small-seeds")
TINY_VIEWS, TINY_SEARCHED = 1500, 8
HEAD = ["case", "AUC", "+-", "held-out views", "combined p of uniformity", "verdict"]


def uniform(views: Any) -> dict[str, float]:
    """P-values of world 0: a view's rounds side by side, members with free words only."""
    from ssddl_jax.privacy.uniformity import uniformity

    rows = np.asarray(views.world0)
    rows = rows.reshape(rows.shape[0], -1, rows.shape[-1])
    return uniformity(rows[:, views.free], views.modulus)._asdict()


def searched(views: Any, count: int) -> dict[str, float]:
    """AUC of the update that trying all seeds finds, projected on what differs between worlds."""
    import planted_faults as planted
    from ssddl_jax.privacy.distinguisher import auc

    def signed(words: Any) -> np.ndarray:
        return np.asarray(words).astype(np.uint8).view(np.int8).astype(np.int64)

    first, second = (signed(words[:2]) for words in planted.small_bytes())
    found = [signed(planted.found_by_seeds(words[:count])) for words in views[:2]]
    scores = np.sum(np.concatenate(found) * (second - first)[None], axis=(1, 2))
    area, error = auc(scores, np.repeat([False, True], count))
    return {"auc": area, "error": error, "views": 2 * count}


def judged(healthy: bool, row: dict[str, Any]) -> tuple[bool, str]:
    """Whether a case came out as it must, and in words."""
    area, p, search = row["auc"], row["uniformity"]["combined"], row.get("seed_search")
    noise = {"classifier": abs(area - 0.5) <= MARGIN, "uniformity": p >= REJECTED}
    caught = {"classifier": area > CAUGHT, "uniformity": p < REJECTED}
    if search is not None:
        noise["seed search"] = abs(search["auc"] - 0.5) <= CHANCE * search["error"]
        caught["seed search"] = search["auc"] > CAUGHT
    if healthy:
        told = [test for test, passed in noise.items() if not passed]
        words = f"NOT AS NOISE: {', '.join(told)}" if told else "as noise"
    else:
        told = [test for test, hit in caught.items() if hit]
        words = f"caught: {', '.join(told)}" if told else "MISSED"
    if search is not None:
        words += f" (seed search's AUC {search['auc']:.3f} +- {1.96 * search['error']:.3f})"
    return bool(told) != healthy, words


def main() -> None:
    """Plays every case, prints, writes."""
    options = measure.arguments(__doc__).parse_args()
    cores = measure.pin(options.cores)
    sys.path.insert(0, str(TESTS))

    import planted_faults as planted
    from ssddl_jax.privacy.distinguisher import distinguish

    if options.tiny:
        planted.VIEWS = TINY_VIEWS
    cases: dict[str, dict[str, Any]] = {}
    wrong = []
    for name, make in {**planted.HEALTHY, **planted.FAULTS}.items():
        if options.tiny and name not in TINY:
            continue
        begin = time.perf_counter()
        views = make()
        row: dict[str, Any] = distinguish(views.world0, views.world1)._asdict()
        row["uniformity"] = uniform(views)
        if name in SEARCHED:
            row["seed_search"] = searched(views, TINY_SEARCHED if options.tiny else SEARCHED[name])
        healthy = name in planted.HEALTHY
        right, verdict = judged(healthy, row)
        row |= {"healthy": healthy, "verdict": verdict, "right": right}
        cases[name] = row | {"seconds": time.perf_counter() - begin}
        wrong += [] if right else [name]
    rows = []
    for name, r in cases.items():
        p = r["uniformity"]["combined"]
        rows.append([name, r["auc"], 1.96 * r["error"], r["held_out"], p, r["verdict"]])
    print(measure.table(HEAD, rows))
    print(f"wrong: {', '.join(wrong) or 'none'}{' (not enforced)' if options.tiny else ''}")
    measure.record(options.out, cores, {"cases": cases, "wrong": wrong})
    if wrong and not options.tiny:
        sys.exit(1)


if __name__ == "__main__":
    main()
