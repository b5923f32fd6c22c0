"""The command ``xpnet``, in the process of the tests."""

from __future__ import annotations

from xpnet.cli import main


def exit_code(*arguments):
    """Run the command and return its exit code."""
    try:
        return main([str(a) for a in arguments])
    except SystemExit as stop:  # argparse has the last word
        return stop.code
