"""Before a run: what it needs, what it sends, which failures it tolerates. Compiles nothing."""
