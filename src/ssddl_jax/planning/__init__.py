"""Before a run: what it needs, what it sends, which failures it tolerates. Nothing is compiled."""
