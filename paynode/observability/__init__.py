"""What people see of a running paynode: log lines and metrics."""
