"""Adaptations of other libraries to the device, made once they are imported, and to none before."""
