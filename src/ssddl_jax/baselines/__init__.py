"""The protocols that SSDDL is compared with, where their rounds differ from its own.

`base` is the contract of a round, `work` of what it costs; one file for each protocol. The list of
them is `config/protocols.py`.
"""
