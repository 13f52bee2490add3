"""A participant's own work: its data, its model, its optimizer, its local training."""
