"""The exit codes of the commands, besides 0; after SIGHUP it is 129, and after SIGTERM 143."""

FAILED, USAGE, INTERRUPTED, UNREAD = 1, 2, 130, 141  # the last: as if SIGPIPE had ended it
