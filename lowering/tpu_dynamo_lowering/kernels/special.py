"""Special functions: gamma, Bessel, zeta, polynomials and their relatives."""
