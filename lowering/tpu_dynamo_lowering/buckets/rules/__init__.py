"""Rules of operators on padded tensors: the modules enter them into `RULES`."""
