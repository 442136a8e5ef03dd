"""The Function app, in a hurry: what a killed process leaves behind is taken up after seconds, not after a minute.

Nothing but four durations differs, so that a short soak in the test suite need not wait for them.
"""

import os
import runpy
from datetime import timedelta
from pathlib import Path

from bridge import policy

LEASE = timedelta(seconds=float(os.environ["SOAK_LEASE_SECONDS"]))

for duration in ("DELIVERY_LEASE", "START_LEASE", "SEARCH_FOR", "INLINE_PROOF"):
    assert isinstance(getattr(policy, duration), timedelta)
    setattr(policy, duration, LEASE)

app = runpy.run_path(str(Path(__file__).resolve().parents[3] / "function_app.py"))["app"]
