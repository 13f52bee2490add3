"""What an adversary learns: attacks on gradients, and how well they do.

Code that measures leakage belongs here. It may read a transcript only to take an adversary's view
of it, or to score what an attack found.
"""
