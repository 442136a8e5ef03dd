"""Data Factory on a laptop: ARM's REST API for pipelines and their runs, over pipelines that are JSON files
in a folder.

The real client (azure-mgmt-datafactory) talks to it unchanged. Run it with `python -m local.adf`.
"""
