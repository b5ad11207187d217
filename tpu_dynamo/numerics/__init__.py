"""A graph's results beside those of eager operators: how far apart they may be, and which operator is at fault."""
