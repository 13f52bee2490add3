"""What a configuration guarantees: which rounds are valid, and how many members may collude.

A round is void, and nothing of it is opened, if its sum would hold too few updates; members that
are excluded before they share count as vanished. In every valid round, the server and the colluders
learn the sum of the honest members' updates and nothing else, provided that the sum holds at least
two honest updates, that there are fewer colluders than shares that open a secret (in a sparse
graph, among the holders of one member's), and that in a sparse graph the honest survivors are
connected by masks that nobody opens. Imports no JAX; `plan`, the round, the forecast and the report
use it.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import floor, inf, log2

import numpy as np

from ssddl_jax.common.errors import ConfigError
from ssddl_jax.config.config import Config
from ssddl_jax.config.protocols import protocol_of
from ssddl_jax.planning import graph_search


@dataclass(frozen=True)
class Guarantees:
    """The sharing graph of a config, when its rounds are void, and how many members may collude."""

    neighbours: int  # k; n - 1 if complete
    threshold: int  # t
    least_alive: int  # uploads without which a round is void
    least_summed: int  # a round with fewer updates in the sum, or fewer members sharing, is void
    max_colluders: int  # members that may collude with the server, in every valid round
    attempts: int  # most attempts of a round
    log2_failure: float  # bound on log2 of the probability that `max_colluders` fails in the run

    @property
    def failure(self) -> float:
        """An upper bound on the probability that, in some attempt of the run, `max_colluders`
        colluders, fixed before the graphs are drawn, learn more. Above 0 on sparse graphs only.
        """
        return 2.0 ** max(self.log2_failure, -1074.0) if self.log2_failure > -inf else 0.0

    def odds(self, rounds: int) -> str:
        """`failure` as text, rounded up."""
        tries = f", up to {self.attempts} attempts each" if self.attempts > 1 else ""
        power = floor(-10 * self.log2_failure) / 10
        return f"at most 2^-{power:.1f} for the run of {rounds:,} rounds{tries} (union bound)"


def guarantees_of(config: Config) -> Guarantees:
    """The guarantees of a config. Raises `ConfigError` for an impossible graph or threshold."""
    rule, size = config.rule_in_force, config.group
    neighbours, threshold = _graph(config)
    sparse = neighbours < size - 1
    if not config.sums_securely:
        least = max(3, fewest_survivors(config)) if protocol_of(config).quorum else 1
        return Guarantees(neighbours, threshold, least, least, 0, 1, -inf)
    fewest = fewest_survivors(config)
    least = max(3, rule.least(size, fewest))
    if sparse:  # the bound on colluders counts on so many survivors
        least = max(least, fewest)
    if rule.needs_threshold:
        least = max(least, threshold)
    if rule.needs_threshold and rule.holds_sharers:  # nothing but t bounds a sum of all sharers
        least = max(least, _corrupt_and_two(config, fewest))
    most = min(least - 2, threshold - 1) if rule.needs_threshold else least - 2
    chance = -inf
    if sparse:
        most, chance = _on_a_ring(config, neighbours, threshold, least, most)
    tries = config.rounds * rule.attempts
    return Guarantees(
        neighbours=neighbours,
        threshold=threshold,
        least_alive=threshold if rule.holds_sharers else least,
        least_summed=least,
        max_colluders=most,
        attempts=rule.attempts,
        log2_failure=min(0.0, chance + log2(tries)),
    )


def fewest_survivors(config: Config) -> int:
    """Members that survive if as many vanish as max_dropout allows."""
    return config.group - floor(Fraction(repr(config.max_dropout)) * config.group)


def _corrupt_and_two(config: Config, fewest: int) -> int:
    """floor(gamma n) + 2, the updates among which that many colluders leave two, if the threshold
    is automatic, and so must withstand them; 0 if max_dropout may leave fewer.
    """
    wanted = floor(Fraction(repr(config.max_corrupt)) * config.group) + 2
    return wanted if config.threshold == "auto" and wanted <= fewest else 0


def _graph(config: Config) -> tuple[int, int]:
    """(k, t). On secagg's complete graph the automatic t is the number of members that max_dropout
    leaves: any feasible t recovers from that many dropouts, and the number of colluders that it
    tolerates, min(t - 1, max(3, t) - 2), grows with t. A smaller t, given by hand, costs less.
    """
    rule, size = config.rule_in_force, config.group
    rates = repr(config.max_corrupt), repr(config.max_dropout)
    if config.graph == "auto":
        try:
            found = graph_search.smallest_graph(size, *rates, config.sigma, config.eta)
        except ValueError as error:
            raise ConfigError("neighbours", "auto", str(error)) from error
        neighbours, threshold = found.neighbours, found.threshold
    else:
        asked = size - 1 if config.graph == "complete" else int(config.graph)
        neighbours, threshold = min(asked, size - 1), 2
        if rule.needs_threshold and config.threshold == "auto":
            try:
                threshold, _ = graph_search.threshold_for(
                    size, neighbours, *rates, config.sigma, config.eta
                )
            except ValueError as error:
                raise ConfigError("threshold", "auto", str(error)) from error
    if config.threshold != "auto":
        threshold = config.threshold
        if threshold > size:
            raise ConfigError("threshold", threshold, f"must be at most group_size = {size}")
    elif rule.opens == "secrets" and neighbours == size - 1:
        threshold = min(max(3, fewest_survivors(config)), neighbours)
    if rule.opens == "secrets" and threshold > neighbours:
        raise ConfigError("threshold", threshold, f"must be at most the {neighbours} partners")
    return neighbours, threshold


def _on_a_ring(
    config: Config, neighbours: int, threshold: int, least: int, sure: int
) -> tuple[int, float]:
    """(how many colluders a sparse graph tolerates, log2 of the probability that they learn more in
    one attempt). Of `sure` no draw gives a member t partners, if t shares open a secret; more may
    collude if that is unlikely enough.
    """
    most, rates = sure, (repr(config.max_corrupt), config.sigma)
    if config.rule_in_force.opens == "secrets" and config.max_corrupt < 1:
        held = graph_search.most_below_threshold(config.group, least, neighbours, threshold, *rates)
        most = max(sure, min(least - 2, held))
    most, chance = _connected(config, neighbours, most)
    if most > sure:
        chance = float(np.logaddexp2(chance, -config.sigma - 1))
    return most, chance


def _connected(config: Config, neighbours: int, most: int) -> tuple[int, float]:
    """(how many of `most` colluders a sparse graph tolerates, log2 of the probability that they cut
    it in one attempt): max_corrupt of the group, or fewer if the graph is too sparse.
    """
    if max(config.max_corrupt, config.max_dropout) >= 1:
        return 0, -inf  # perhaps no honest member is left
    rates = repr(config.max_corrupt), repr(config.max_dropout)
    held = graph_search.max_colluders(config.group, neighbours, *rates, config.sigma)
    most = min(most, held)
    if most == 0:
        return 0, -inf  # a round whose survivors are not connected is void
    vanished = floor(Fraction(rates[1]) * config.group)
    return most, graph_search.log2_cut(config.group, neighbours, most + vanished)
