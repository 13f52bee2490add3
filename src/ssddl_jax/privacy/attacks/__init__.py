"""Published attacks that reconstruct training examples from gradients."""
