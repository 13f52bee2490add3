"""`ssddl run --explain`: the protocol on one screen, with the numbers of a real round."""
