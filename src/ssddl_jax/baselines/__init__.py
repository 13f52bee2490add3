"""The protocols that SSDDL is compared with, where their rounds differ from its own.

`base` is the contract of a round, `work` that of its measured costs; each protocol has one file.
`config/protocols.py` lists them.
"""
