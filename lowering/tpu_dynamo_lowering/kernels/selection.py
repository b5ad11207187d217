"""Order statistics: kthvalue, median, mode, quantiles, unique with a known size."""
