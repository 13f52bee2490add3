"""Can any of our tests distinguish an adversary's view of a correct scheme from noise?

And do the same tests detect planted faults? The correct cases and the faults are those of
`tests/planted_faults.py`, which no config can produce. The classifier (`distinguish`) gets each
case's views of two worlds with the same sum; the statistics (`uniformity`) get the views of world
0. For masks from small seeds, and for the correct counterpart of that case, all seeds are also
tried. Exits with 1 if a correct case is distinguished from noise, or if a fault is not detected.
`--tiny` only prints its verdicts, because it has too few views for the margin.
"""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import measure

TESTS = Path(__file__).resolve().parent.parent / "tests"
MARGIN = 0.02  # a correct case's AUC is 0.5 within this
CAUGHT = 0.9
REJECTED = 1e-6
SEARCHED = {"small-seeds": 500, "byte-residuals": 2500}  # views of each world
CHANCE = 4.0  # standard errors allowed in a correct case's seed search, which has fewer views
TINY = ("directed", "small-seeds")
TINY_VIEWS, TINY_SEARCHED = 1500, 8
HEAD = ["case", "AUC", "+-", "held-out views", "combined p-value", "verdict"]


def uniform(views: Any) -> dict[str, float]:
    """P-values of world 0; a view's rounds count as members, and only free members are tested."""
    from ssddl_jax.privacy.uniformity import uniformity

    rows = np.asarray(views.world0)
    rows = rows.reshape(rows.shape[0], -1, rows.shape[-1])
    return uniformity(rows[:, views.free], views.modulus)._asdict()


def searched(views: Any, count: int) -> dict[str, float]:
    """AUC of the updates found by trying all seeds, projected on the difference of the worlds."""
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
    """(whether the verdict is the expected one, the verdict in words)."""
    area, p, search = row["auc"], row["uniformity"]["combined"], row.get("seed_search")
    noise = {"classifier": abs(area - 0.5) <= MARGIN, "uniformity": p >= REJECTED}
    caught = {"classifier": area > CAUGHT, "uniformity": p < REJECTED}
    if search is not None:
        noise["seed search"] = abs(search["auc"] - 0.5) <= CHANCE * search["error"]
        caught["seed search"] = search["auc"] > CAUGHT
    if healthy:
        found = [test for test, passed in noise.items() if not passed]
        words = f"NOT AS NOISE: {', '.join(found)}" if found else "as noise"
    else:
        found = [test for test, hit in caught.items() if hit]
        words = f"caught: {', '.join(found)}" if found else "MISSED"
    if search is not None:
        words += f" (seed search: AUC {search['auc']:.3f} +- {1.96 * search['error']:.3f})"
    return bool(found) != healthy, words


def main() -> None:
    """Tests every case, prints the table, writes the JSON."""
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
