"""What an adversary learns: attacks on gradients, and how well they do."""
