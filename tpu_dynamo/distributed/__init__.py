"""torch.distributed on the device: process groups, collectives as XLA programs, and the job that runs them."""
