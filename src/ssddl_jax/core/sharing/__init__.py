"""Sharing schemes: they turn encoded updates into uploads, and uploads into the sum.

`base` holds the contract. Each scheme is one file. `config/rules.py` says which dropout rule uses
which scheme.
"""
