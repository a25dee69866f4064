"""Ray, Optuna and the command line: what runs where, and when it stops."""
