"""slidelearn: train and search very wide output layers on a CPU."""

__version__ = "0.1.0"
