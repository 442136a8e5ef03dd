"""One simulated world, driven by chance from a seed: the real use cases, interleaved at every command, under faults."""
