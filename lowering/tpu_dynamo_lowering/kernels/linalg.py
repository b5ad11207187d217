"""Linear algebra: factorisations, solves, determinants, inverses."""
