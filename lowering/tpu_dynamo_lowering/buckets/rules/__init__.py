"""What each operator does to padded tensors: `RULES` says how, the modules enter their operators there."""
