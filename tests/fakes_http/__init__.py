"""Servers with state that speak another service's HTTP API."""
