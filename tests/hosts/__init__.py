"""Several hosts on one machine, for tests of a cluster: `possible.py` says whether this machine
allows them, `hosts.py` makes them, `host.sh` is what runs on each."""
