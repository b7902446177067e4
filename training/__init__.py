"""Settings, losses, the training loop and evaluation."""
