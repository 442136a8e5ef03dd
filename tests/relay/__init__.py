"""Runs whose ends are told by diagnostic settings only: out of order, doubled, and some of them not at all."""
