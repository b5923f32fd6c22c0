"""What is tried of each public thing; `tests/contract.py` makes the table of it."""
