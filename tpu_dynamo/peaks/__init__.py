"""The peak of a graph's memory: whose the values are that are alive at it, and what would make it smaller."""
