"""Turns a config into pure functions: the round, its compilation, digests, transcripts, seeds."""
