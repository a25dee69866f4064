"""Talking to a Ray cluster from another machine, through its dashboard's HTTP port alone."""
