"""Training: configuration, losses, and one file per way of training."""
