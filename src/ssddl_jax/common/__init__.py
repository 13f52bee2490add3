"""What every room may import: one-line errors, users' text and paths, atomic files, plug-ins.

Nothing about the protocol belongs here.
"""
