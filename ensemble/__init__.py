"""The out-of-fold store and everything that is done to probabilities (no torch, no Ray)."""
