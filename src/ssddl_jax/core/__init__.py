"""The round: everything that is traced into the one XLA program, and nothing else.

`round` follows the paper's five modules. It is built from `arithmetic`, `learning` and `sharing`.
Nothing here knows `Config`, files or datasets.
"""
