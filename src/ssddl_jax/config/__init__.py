"""What a user can ask for: `Config`, its checks, TOML files, dropout schedules, protocols, metrics.

Imports neither NumPy nor JAX, so that a mistake is reported at once.
"""
