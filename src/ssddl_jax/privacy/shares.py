"""A round's shares, recomputed one by one from its transcript, for adversaries' views."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt32

from ssddl_jax.core.arithmetic.chacha import PRG, rolled
from ssddl_jax.core.arithmetic.field import P
from ssddl_jax.core.arithmetic.randomness import coefficient_keys, pair_keys
from ssddl_jax.core.arithmetic.rings import RINGS
from ssddl_jax.core.sharing.schedules.kernels import lanes_of, written
from ssddl_jax.planning.plan import load_prg
from ssddl_jax.privacy.messages import Header, Message, pairs

_AT_ONCE = 64  # keys expanded in one call
Words = UInt32[np.ndarray, " W"]


@functools.lru_cache(maxsize=32)
def _expander(prg: PRG, width: int, nonce_word: int) -> Callable[[jax.Array], jax.Array]:
    count = -(-width // 16)
    if jax.default_backend() != "cpu":
        prg = rolled(prg)  # unrolled, it compiles for minutes on a GPU

    @jax.jit
    def expand(keys: jax.Array) -> jax.Array:
        ones = jnp.ones(keys.shape[0], jnp.uint32)
        columns = [keys[:, i] for i in range(8)]
        lanes = written(prg, columns, ones, jnp.uint32(0), count, nonce_word)
        return jnp.swapaxes(lanes_of(lanes), 0, 1).reshape(keys.shape[0], -1)[:, :width]

    return expand


def streams(
    prg: PRG, keys: UInt32[np.ndarray, "K 8"], width: int, nonce_word: int = 0
) -> UInt32[np.ndarray, "K W"]:
    """The first `width` words of the PRG under every key."""
    expand = _expander(prg, width, nonce_word)
    padded = np.concatenate([keys, np.zeros((-len(keys) % _AT_ONCE, 8), np.uint32)])
    made = [
        expand(jnp.asarray(padded[at : at + _AT_ONCE])) for at in range(0, len(padded), _AT_ONCE)
    ]
    return np.concatenate(made)[: len(keys)]


def _keys(
    derive: Callable[..., jax.Array], chain: jax.Array, attempt: int, first: Any, second: Any
) -> UInt32[np.ndarray, "K 8"]:
    """Keys of pairs (first, second), derived in batches of one size so that it compiles once."""
    pairs = np.stack([np.asarray(first, np.uint32), np.asarray(second, np.uint32)], axis=1)
    padded = np.concatenate([pairs, np.zeros((-len(pairs) % _AT_ONCE, 2), np.uint32)])
    made = [
        derive(chain, jnp.uint32(attempt), *jnp.asarray(padded[at : at + _AT_ONCE].T))
        for at in range(0, len(padded), _AT_ONCE)
    ]
    return np.concatenate(made)[: len(pairs)]


_pair_keys, _coefficient_keys = jax.jit(pair_keys), jax.jit(coefficient_keys)


class _Shares(ABC):
    """Shares of a round. Those that `expect` announces are computed together, once."""

    def __init__(self, transcript: dict[str, Any], header: Header) -> None:
        self._header = header
        self._encoded = np.asarray(transcript["encoded"])
        self._chain = jnp.asarray(transcript["chain"])
        self._prg = load_prg(str(transcript["prg"]))

    def words(self, message: Message) -> Words:
        """The words of a share or of an upload."""
        _, attempt, sender, receiver = message
        if message.kind == "upload":
            return self.upload(attempt, sender)
        return self.share(attempt, sender, receiver)

    def opened(self, words: dict[Message, Words]) -> dict[Message, Words]:
        """Masks that the words reveal in addition: none, the shares are the masks."""
        return {}

    @abstractmethod
    def share(self, attempt: int, dealer: int, holder: int) -> Words:
        """The words that a dealer gave a holder."""

    @abstractmethod
    def upload(self, attempt: int, sender: int) -> Words:
        """The words that a member sent, or would have sent, in an attempt."""


class PairShares(_Shares):
    """Pairwise pads, in the ring."""

    def __init__(self, transcript: dict[str, Any], header: Header) -> None:
        super().__init__(transcript, header)
        self._ring = RINGS[header.ring_bits]
        self._pads: dict[tuple[int, int, int], Words] = {}

    def expect(self, messages: Iterable[Message]) -> None:
        """Computes the pads that these messages need."""
        needed = set()
        for kind, attempt, sender, receiver in messages:
            if kind in ("share", "opened"):
                needed.add((attempt, sender, receiver))
            elif kind == "upload" and not self._header.counted(attempt, sender):
                around = pairs(self._header, attempt)
                needed |= {(attempt, i, j) for i, j in around if sender in (i, j)}
        if not needed:
            return
        table = np.array(sorted(needed), np.uint32)
        for attempt in np.unique(table[:, 0]):
            rows = table[table[:, 0] == attempt]
            keys = _keys(_pair_keys, self._chain, int(attempt), rows[:, 1], rows[:, 2])
            made = streams(self._prg, keys, self._encoded.shape[1])
            for (a, i, j), words in zip(rows.tolist(), made, strict=True):
                self._pads[a, i, j] = words

    def share(self, attempt: int, dealer: int, holder: int) -> Words:
        """The pad s_{dealer -> holder}."""
        return self._pads[attempt, dealer, holder]

    def upload(self, attempt: int, sender: int) -> Words:
        """The encoded update, plus the pads that it holds, minus those that it dealt."""
        sent = jnp.asarray(self._encoded[self._header.slot(sender)])
        for i, j in pairs(self._header, attempt):
            if sender in (i, j):
                words = jnp.asarray(self._pads[attempt, i, j])
                sent = self._ring.add(sent, words if j == sender else self._ring.negate(words))
        return np.asarray(sent)


class FieldShares(_Shares):
    """Shamir shares: values of every dealer's polynomial, residues mod p."""

    def __init__(self, transcript: dict[str, Any], header: Header) -> None:
        super().__init__(transcript, header)
        self._coefficients: dict[int, np.ndarray] = {}

    def expect(self, messages: Iterable[Message]) -> None:
        """Computes every dealer's coefficients of degree 1..t-1, u32 [t-1, W], if needed."""
        if not any(message.kind in ("share", "upload") for message in messages):
            return
        dealers = self._header.sharers
        degrees = self._header.threshold - 1
        ids = np.repeat(dealers, degrees)
        degree = np.tile(np.arange(1, degrees + 1), len(dealers))
        keys = _keys(_coefficient_keys, self._chain, 0, ids, degree)
        width = self._encoded.shape[1]
        found = streams(self._prg, keys, width) & np.uint32(P)
        for nonce in (1, 2):
            if np.any(found == P):
                again = streams(self._prg, keys, width, nonce) & np.uint32(P)
                found = np.where(found == P, again, found)
        shaped = found.reshape(len(dealers), degrees, width)
        self._coefficients = dict(zip(dealers, shaped, strict=True))

    def share(self, attempt: int, dealer: int, holder: int) -> Words:
        """The dealer's polynomial at the holder's point."""
        words = self._encoded[self._header.slot(dealer)]
        value = words.view(np.int32).astype(np.int64) % P
        point = self._header.slot(holder) + 1
        for degree, coefficient in enumerate(self._coefficients[dealer], start=1):
            value = (value + coefficient.astype(np.int64) * pow(point, degree, P)) % P
        return value.astype(np.uint32)

    def upload(self, attempt: int, sender: int) -> Words:
        """The sum of the shares that the sender holds."""
        held = [self.share(0, i, sender).astype(np.uint64) for i in self._header.sharers]
        return (np.sum(held, axis=0) % np.uint64(P)).astype(np.uint32)
