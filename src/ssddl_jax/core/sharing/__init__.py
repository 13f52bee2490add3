"""Sharing schemes: how encoded updates become uploads, and what the server makes of them.

`base` is the contract; one file for each scheme. Which rule has which: `config/rules.py`.
"""
