"""Every way in which a run can end, and who tells the task that waits for it: ``python -m tests.sources``."""
