"""What each command does: one module a command, nothing heavy imported before it runs."""
