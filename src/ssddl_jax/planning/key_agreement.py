"""Keys that participants agree on before they can share, counted the same way for every protocol.

Bytes of one participant in a key's life, and the same spread over the rounds of that life. Free of
JAX. Ours, where the sources leave room: a public key is 32 bytes (X25519) and goes through the
server; SSDDL's participants publish one each before the first round and fetch everybody else's,
since groups are drawn anew; the pair keys of all rounds follow from these (docs/protocol.md,
section 4).
SecAgg's two keys a member live one round, as Bonawitz et al. have it: the mask key of a member that
vanishes is opened. The bytes of a run count SecAgg's keys in every round, and SSDDL's not at all;
`KeyAgreement.counted` says which.
"""

from typing import Any, NamedTuple

from ssddl_jax.baselines import traffic

KEY = 32  # bytes of a public key, or of a symmetric one


class KeyAgreement(NamedTuple):
    """One participant's bytes in the life of its keys."""

    up: int
    down: int
    rounds: int  # that the keys live
    counted: bool  # whether the bytes of every round hold them

    def a_round(self, participants: int, members: int) -> float:
        """Bytes, up and down, of a member and round: a run's set-up spread over those who take
        part in its rounds.
        """
        if self.rounds == 1:
            return float(self.up + self.down)  # of those who take part only
        return (self.up + self.down) * participants / (members * self.rounds)

    def as_json(self, participants: int, members: int) -> dict[str, Any]:
        """All of it, with `bytes_a_round`."""
        return {**self._asdict(), "bytes_a_round": self.a_round(participants, members)}


def key_agreement(
    config: Any, dimension: int, neighbours: int, rounds: int | None = None
) -> KeyAgreement:
    """What a config's protocol takes; zeros where nothing is encrypted or masked. `neighbours` k;
    `rounds`: of the run, the config's if not given.
    """
    life = rounds or config.rounds
    if config.protocol == "ssddl":
        return KeyAgreement(KEY, KEY * (config.participants - 1), life, counted=False)
    if config.protocol in ("secagg", "secagg+"):
        return KeyAgreement(2 * KEY, 2 * KEY * neighbours, 1, counted=True)
    if config.protocol == "snt":  # the key that all trainers share
        return KeyAgreement(0, KEY, life, counted=False)
    public = traffic.public_key(config, dimension)
    return KeyAgreement(0, public, life, counted=False)
