"""Event Grid on a laptop: custom topics, subscriptions with filters, both handshakes, retries and dead-letter
files.

The real publisher (azure-eventgrid) talks to it unchanged. Run it with `python -m local.event_grid`.
"""
