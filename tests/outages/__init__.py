"""Outages while tasks wait in mode queue: what may die, and what is lost by it."""
