"""What every room may import: errors of one line, text and paths of users, whole files, plug-ins.

Nothing of the protocol and nothing of JAX comes in.
"""
