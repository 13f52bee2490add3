"""Arithmetic on words: rings, fields, ChaCha, the fixed-point encoding, all random words."""
