"""The promises of adf-bridge, each with a test that fails when the promise is broken."""
