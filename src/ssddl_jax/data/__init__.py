"""Data sets from names, files and arrays, and who holds which rows; one check for all of them."""
