"""The simulated world in Hypothesis's hands: it decides what happens next, instead of chance."""
