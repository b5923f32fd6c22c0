"""The command line: ``xpnet train``, ``xpnet report``, ``xpnet check`` and ``xpnet info``."""

from xpnet.cli.commands import main as main
