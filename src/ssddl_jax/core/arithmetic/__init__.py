"""Words: rings, fields, ChaCha, the fixed-point encoding, and every random word that is drawn."""
