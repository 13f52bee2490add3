"""The protocols that SSDDL is compared with, where their rounds differ from its own.

`base` is the contract, `registry` the list; one file for each protocol.
"""
