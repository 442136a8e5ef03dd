"""The Functions host of a laptop: runs `function_app.py` in Microsoft's own worker library, behind the
routes of the real host.
"""
