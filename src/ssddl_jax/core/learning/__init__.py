"""What a participant does alone: models, optimizers, its data, its local training."""
