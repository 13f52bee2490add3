"""Sharing schemes: how encoded updates become uploads, and what the server makes of them.

`base` is the contract, `schemes` the list; one file for each scheme.
"""
