"""What the processes tell about themselves: log lines and metrics."""
