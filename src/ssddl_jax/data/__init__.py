"""Datasets from names, files and arrays, with one check for all; and who holds which rows."""
