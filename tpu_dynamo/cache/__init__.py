"""The compile cache: what lowering and XLA made, kept on disk and found again by later processes."""
