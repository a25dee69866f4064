"""Policies: random changes of one uint8 image that cannot be batched on the device."""
