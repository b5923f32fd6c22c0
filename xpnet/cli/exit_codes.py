"""The exit codes of the commands, besides 0; after SIGTERM it is 143."""

FAILED, USAGE, INTERRUPTED = 1, 2, 130
