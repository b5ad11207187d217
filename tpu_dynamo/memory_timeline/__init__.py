"""The device's memory over time: recorded where tensors get it, by owner and by line."""
