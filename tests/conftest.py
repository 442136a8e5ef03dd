"""What holds for every test of the suite."""

from hypothesis import settings

# A run of the suite is repeatable: the same examples every time, on a slow machine too.
settings.register_profile("suite", derandomize=True, deadline=None, database=None)
settings.load_profile("suite")
