"""Measurements: timed rounds, growth with the group, comparisons, other machines' compilers."""
