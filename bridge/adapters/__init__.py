"""The outside world, one module per service. Only `bridge.wiring` imports from here."""
