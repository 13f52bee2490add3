"""Measurements: timed rounds, growth with the group, comparisons, other machines' compilers.

Code that times real rounds, or compiles them to report costs, belongs here. Predictions that need
no compilation belong in `planning`.
"""
