"""The bridge in its Functions host, killed again and again while runs pass through it."""
