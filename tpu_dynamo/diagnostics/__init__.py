"""The graph-break report: why a model is not one graph, why it is compiled again, and the lines to change."""

from .collecting import Diagnosis, diagnose
from .model import Break, Recompile, Report

__all__ = ["Break", "Diagnosis", "Recompile", "Report", "diagnose"]
