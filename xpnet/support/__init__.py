"""What all rooms use: errors, messages, checks of arguments, files."""
