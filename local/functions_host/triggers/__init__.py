"""What makes functions run: one module per trigger type."""
