"""Whole training steps as one executable: forward, backward and the optimizer's update."""

from .joint_graph import NotALoss
from .optimizers import UnsupportedOptimizer
from .step import TrainStep, train_step

__all__ = ["NotALoss", "TrainStep", "UnsupportedOptimizer", "train_step"]
