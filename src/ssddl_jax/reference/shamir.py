"""Shamir's t-of-n sharing over a prime field, word by word (docs/protocol.md, section 5)."""

from collections.abc import Sequence

from ssddl_jax.reference.randomness import Words


def shamir_shares(
    secret: Sequence[int], coefficients: list[Words], points: Sequence[int], prime: int
) -> list[Words]:
    """f(x) = secret + sum_l coefficients[l - 1] x^l for every x in `points`, word by word."""
    if any(x % prime == 0 for x in points):
        raise ValueError(f"Argument 'points' must not be 0 mod {prime}, where the secret is.")
    shares = []
    for x in points:
        share = [0] * len(secret)
        for row in [*reversed(coefficients), secret]:  # Horner's rule
            share = [(s * x + c) % prime for s, c in zip(share, row, strict=True)]
        shares.append(share)
    return shares


def interpolate_at_zero(points: Sequence[int], shares: Sequence[Words], prime: int) -> Words:
    """f(0) by Lagrange interpolation, from as many distinct points as f has coefficients."""
    if len({x % prime for x in points}) < len(points) or any(x % prime == 0 for x in points):
        raise ValueError(f"Argument 'points' must be distinct and not 0 mod {prime}: {points}.")
    secret = [0] * len(shares[0])
    for x, share in zip(points, shares, strict=True):
        factor = 1
        for other in points:
            if other != x:
                factor = factor * other * pow(other - x, -1, prime) % prime
        secret = [(s + factor * value) % prime for s, value in zip(secret, share, strict=True)]
    return secret
