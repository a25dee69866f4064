"""Where members and blend are good, alike, wrong and unsure, as tables over out-of-fold rows."""
