"""What may be asked for: `Config`, its checks, TOML files, dropout schedules, protocols, metrics.

Free of NumPy and JAX, so that a mistake is reported at once.
"""
