"""The step, and the trainer that takes it."""
