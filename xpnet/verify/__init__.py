"""What shows that gradients are right, and the same on all backends."""
