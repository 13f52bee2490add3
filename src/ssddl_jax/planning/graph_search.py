"""How many neighbours and which threshold a group needs: the exact search of SecAgg+.

Bell, Bonawitz, Gascon, Lepoint, Raykova 2020; conditions as in docs/protocol.md, section 5. N is
the *group's* size, c = floor(gamma N) its corrupt members, v = floor(delta N) its dropouts, B = c +
v. Tails are sums of floats; a tail within 1e-9 of its bound is decided in exact integers, so the
answers are exactly those of the formulae.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import ceil, comb, floor, inf, log, log2, perm, sqrt

import numpy as np

CLOSE = 1e-9  # logarithms nearer than this to their bound are compared exactly
Number = str | float | Decimal


@dataclass(frozen=True)
class GraphPlan:
    """A sharing graph for a group of n. `neighbours` k is n - 1 if the graph is complete."""

    neighbours: int  # k
    threshold: int  # t, the smallest safe threshold: max(t1 + 1, 2)
    threshold_max: int  # t2, the largest that the dropouts allow
    complete: bool


def smallest_graph(
    n: int, max_corrupt: Number, max_dropout: Number, sigma: int = 40, eta: int = 30
) -> GraphPlan:
    """The smallest even k < n - 1 that is connected, safe and live, else the complete graph.

    `max_corrupt` gamma and `max_dropout` delta are fractions of the group, read as exact decimals.
    The graph fails with probability <= 2^-sigma (security) and <= 2^-eta (liveness). Raises
    `ValueError` if no graph works, and names fractions for which one does.
    """
    corrupt, dropped = _counts(n, max_corrupt, max_dropout)
    plan = _search(n, corrupt, dropped, sigma, eta)
    if plan is None:
        raise ValueError(_impossible(n, n - 1, max_corrupt, max_dropout, sigma, eta))
    return plan


def threshold_for(
    n: int, k: int, max_corrupt: Number, max_dropout: Number, sigma: int = 40, eta: int = 30
) -> tuple[int, int]:
    """(t, t_max) on the graph with k neighbours, 1 <= k <= n - 1.

    Raises `ValueError` if t > t_max.
    """
    corrupt, dropped = _counts(n, max_corrupt, max_dropout)
    if not 1 <= k <= n - 1:
        raise ValueError(f"Argument 'k' must be in [1, {n - 1}], not {k}.")
    t, t_max = _thresholds(n, k, corrupt, dropped, sigma, eta)
    if t > t_max:
        raise ValueError(_impossible(n, k, max_corrupt, max_dropout, sigma, eta))
    return t, t_max


def max_colluders(n: int, k: int, max_corrupt: Number, max_dropout: Number, sigma: int = 40) -> int:
    """How many members, fixed before the graph is drawn, may collude with the server.

    Complete graph (k >= n - 1): n - 2. Sparse: the floor(gamma n) that it was built for, or fewer
    if k is too small: the most that leave the honest survivors connected, except with probability
    2^-(sigma + 1).
    """
    if k >= n - 1:
        return n - 2
    corrupt, dropped = _counts(n, max_corrupt, max_dropout)
    held = _greatest(corrupt, lambda c: _connected(n, k, c + dropped, sigma))
    return max(held, 0)


def most_below_threshold(
    n: int, least: int, k: int, t: int, max_corrupt: Number, sigma: int = 40
) -> int:
    """The most colluders c <= floor(gamma n), fixed before a ring with k neighbours is drawn among
    m of the group, least <= m <= n, of whom t or more are partners of some honest member with
    probability at most 2^-(sigma + 1). At least t - 1, if floor(gamma n) is.

    With H corrupt among k of m members, c of them corrupt, the union bound (m - c) Pr[H' >= t], for
    the k partners of an honest one, is at most m Pr[H >= t]. Its terms m Pr[H = h] do not grow with
    m if (h - 1) m >= (c - 1) (k - 1), so the smallest m decides.
    """
    corrupt, _ = _counts(n, max_corrupt, 0)
    k = min(k, least - 1)

    def holds(c: int) -> bool:
        if c < t:
            return True
        falls = (t - 1) * least >= (c - 1) * (k - 1)
        return falls and k - _greatest_below(least, least - c, k, sigma + 1) < t

    return _greatest(min(corrupt, least - 1), holds)


def _counts(n: int, max_corrupt: Number, max_dropout: Number) -> tuple[int, int]:
    """(floor(gamma n), floor(delta n)) in exact decimals; ceil((1 - delta) n) is n - the latter."""
    if n < 3:
        raise ValueError(f"Argument 'n' must be at least 3, not {n}.")
    counts = []
    for name, value in (("max_corrupt", max_corrupt), ("max_dropout", max_dropout)):
        fraction = Fraction(Decimal(str(value)))
        if not 0 <= fraction < 1:
            raise ValueError(f"Argument '{name}' must be in [0, 1), not {value}.")
        counts.append(floor(fraction * n))
    return counts[0], counts[1]


def _search(n: int, corrupt: int, dropped: int, sigma: int, eta: int) -> GraphPlan | None:
    """The smallest k. It can skip values: with k, t never falls and t2 grows by at most 1, so a gap
    of g needs at least g steps.
    """
    k = _least_connected(n, corrupt + dropped, sigma)
    while True:
        k = min(k, n - 1)
        t, t_max = _thresholds(n, k, corrupt, dropped, sigma, eta)
        if t <= t_max:
            return GraphPlan(k, t, t_max, complete=k == n - 1)
        if k == n - 1:
            return None
        k += 2 * ceil((t - t_max) / 2)


def _least_connected(n: int, bad: int, sigma: int) -> int:
    """The smallest even k whose honest survivors are connected; at least n - 1 if there is none
    below that.

    The failure bound falls with k (bad < n), so k is doubled, then bisected.
    """
    high = 1  # k = 2 high
    while 2 * high < n - 1 and not _connected(n, 2 * high, bad, sigma):
        high *= 2
    low = high // 2  # fails, or is 0
    while high - low > 1:
        middle = (low + high) // 2
        if 2 * middle >= n - 1 or _connected(n, 2 * middle, bad, sigma):
            high = middle
        else:
            low = middle
    return 2 * high


def log2_cut(n: int, k: int, bad: int) -> float:
    """log2 of n (n-k-1) / 2 * bad! (n-k)! / (n! (bad-k)!), for k < n - 1: an upper bound on the
    probability that `bad` members of a fresh ring cut it in two. Minus infinity if they cannot.
    """
    if k > bad:
        return -inf
    if bad >= n:
        return 0.0
    i = np.arange(k)
    return log2(n) + log2(n - k - 1) - 1 + float(np.sum(np.log2((bad - i) / (n - i))))


def _connected(n: int, k: int, bad: int, sigma: int) -> bool:
    """Whether the probability of a cut is below 2^-(sigma + 1)."""
    bound, limit = log2_cut(n, k, bad), -sigma - 1
    if bad >= n or abs(bound - limit) > CLOSE:
        return bound < limit
    return n * (n - k - 1) * perm(bad, k) << sigma < perm(n, k)


def _thresholds(
    n: int, k: int, corrupt: int, dropped: int, sigma: int, eta: int
) -> tuple[int, int]:
    """(max(t1 + 1, 2), t2) for k neighbours of n."""
    # t1 bounds the corrupt neighbours. Pr[H > t] for H corrupt among k equals Pr[k - H < k - t] for
    # the k - H honest ones.
    t1 = k - _greatest_below(n, n - corrupt, k, sigma + 1)
    return max(t1 + 1, 2), _greatest_below(n, n - dropped, k, eta)


def _greatest_below(n: int, good: int, k: int, bits: int) -> int:
    """The largest t with Pr[H < t] <= 2^-bits / n, for H good members among k drawn from n."""
    least, most = max(0, k - (n - good)), min(k, good)
    # Hoeffding: less than 2^-64 of the bound lies outside mean +- reach and is neglected.
    reach = sqrt(k / 2 * (log(n) + (bits + 65) * log(2)))
    low = max(least, floor(k * good / n - reach))
    high = min(most, ceil(k * good / n + reach))
    h = np.arange(low, high, dtype=np.float64)
    steps = np.log((good - h) / (h + 1)) + np.log((k - h) / (n - good - k + h + 1))
    weights = np.concatenate([[0.0], np.cumsum(steps)])  # log Pr[H = low + i], up to a constant
    tails = np.logaddexp.accumulate(weights)  # log Pr[H <= low + i], likewise
    excess = tails - tails[-1] + log(n) + bits * log(2)
    t = low + int(np.searchsorted(excess, -CLOSE))  # holds for this t; integers decide close ones
    while excess[t - low] <= CLOSE and _exactly_below(n, good, k, t + 1, bits):
        t += 1
    return t


def _exactly_below(n: int, good: int, k: int, t: int, bits: int) -> bool:
    """Whether Pr[H < t] <= 2^-bits / n, in exact integers."""
    least = max(0, k - (n - good))
    ways = sum(comb(good, h) * comb(n - good, k - h) for h in range(least, t))
    return n * ways << bits <= comb(n, k)


def _greatest(limit: int, holds: Callable[[int], bool]) -> int:
    """The largest count in 0..limit for which `holds`, or -1. `holds` is true up to some bound."""
    low, high = -1, limit + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _impossible(
    n: int, k: int, max_corrupt: Number, max_dropout: Number, sigma: int, eta: int
) -> str:
    """Why no threshold works with k neighbours, and the nearest fractions for which one does."""
    corrupt, dropped = _counts(n, max_corrupt, max_dropout)

    def works(c: int, v: int) -> bool:
        t, t_max = _thresholds(n, k, c, v, sigma, eta)
        return t <= t_max

    remedies = []
    if (v := _greatest(dropped, lambda v: works(corrupt, v))) >= 0:
        remedies.append(f"max_dropout {_decimal(v, n)}")
    if (c := _greatest(corrupt, lambda c: works(c, dropped))) >= 0:
        remedies.append(f"max_corrupt {_decimal(c, n)}")
    if not remedies and (c := _greatest(corrupt, lambda c: works(c, 0))) >= 0:
        remedies.append(f"max_corrupt {_decimal(c, n)} and max_dropout 0")
    nearest = ", or ".join(remedies) or "more neighbours"
    return (
        f"A group of {n} with {k} neighbours each has no threshold for max_corrupt {max_corrupt}"
        f" and max_dropout {max_dropout}; the nearest that works: {nearest}."
    )


def _decimal(count: int, n: int) -> Decimal:
    """The shortest decimal x with floor(x n) = count."""
    digits = 0
    while (scaled := -(-count * 10**digits // n)) * n >= (count + 1) * 10**digits:
        digits += 1
    return Decimal(scaled).scaleb(-digits)
