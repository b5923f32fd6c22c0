"""Networks and trainings in files."""
