"""The Hydra tree, the typed configuration and the search space."""
