"""The version of tpu-dynamo that is installed."""

from importlib import metadata

__version__ = metadata.version("tpu-dynamo")
