"""SSDDL and its rivals on the same data, model and seeds: accuracy, computation, bytes, leakage."""
