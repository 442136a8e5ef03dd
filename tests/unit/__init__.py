"""The rules, one by one, without I/O."""
