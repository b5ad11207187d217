"""Whole training steps as one executable: forward, backward and the optimizer's update."""

from .optimizers import UnsupportedOptimizer
from .step import TrainStep, train_step

__all__ = ["TrainStep", "UnsupportedOptimizer", "train_step"]
