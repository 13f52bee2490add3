"""Published attacks that turn a gradient back into the example it came from."""
