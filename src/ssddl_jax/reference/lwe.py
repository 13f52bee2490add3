"""The encryption of Phong et al. (2018) in Python integers: the oracle of `baselines.lwe`.

Vectors and matrices are lists. q = 2^77, p = 2^48 + 1.
"""

from collections.abc import Sequence

Q, P = 2**77, 2**48 + 1
Matrix = list[list[int]]


def times(vector: Sequence[int], matrix: Matrix) -> list[int]:
    """vector * matrix mod q."""
    columns = zip(*matrix, strict=True)
    return [sum(v * m for v, m in zip(vector, column, strict=True)) % Q for column in columns]


def encrypt(
    a: Matrix, p: Matrix, e1: list[int], e2: list[int], e3: list[int], message: list[int]
) -> tuple[list[int], list[int]]:
    """Encrypts a message of signed integers: the ciphertext (c1, c2)."""
    c1 = [(x + P * e) % Q for x, e in zip(times(e1, a), e2, strict=True)]
    masked = zip(times(e1, p), e3, message, strict=True)
    return c1, [(x + P * e + m) % Q for x, e, m in masked]


def decrypt(secret: Matrix, c1: list[int], c2: list[int]) -> list[int]:
    """Decrypts a ciphertext to its message of signed integers."""
    summed = [(x + y) % Q for x, y in zip(times(c1, secret), c2, strict=True)]
    return [lift(lift(value, Q) % P, P) for value in summed]


def lift(value: int, modulus: int) -> int:
    """The representative in (-modulus / 2, modulus / 2]."""
    return value - modulus if value > modulus // 2 else value
