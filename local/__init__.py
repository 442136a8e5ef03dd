"""Azure on a laptop: what stands in for the platform during development, tests and the demo. Never deployed."""
