"""From a config to pure functions: the round, its compilation, digests, transcripts, many seeds."""
