"""The functions that expressions may call, by what they work on."""
