"""The round: everything that is traced into the one XLA program, and nothing else.

`round` reads as the paper; `arithmetic`, `learning` and `sharing` are what it is made of. `Config`,
files and data sets stay outside.
"""
