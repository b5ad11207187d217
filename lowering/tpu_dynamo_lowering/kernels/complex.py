"""Complex numbers: parts, views and constructors."""
