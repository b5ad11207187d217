"""Operators that write to their arguments, and their calls in functional graphs."""
