"""What every implementation of a port must keep."""
