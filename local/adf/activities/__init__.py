"""What activities do: one module for each kind that is executed for real, and one for all that are declared."""
