"""When a failed function is run again: the policy that its decorator `retry` declares.

Rules as in https://learn.microsoft.com/azure/azure-functions/functions-bindings-error-pages#retry-policies
"""

from dataclasses import dataclass
from datetime import timedelta

from local.functions_host.messages import Message

WITHOUT_END = -1
_DOUBLINGS = 30


@dataclass(frozen=True)
class RetryPolicy:
    """How often, and after what pauses. With a fixed delay, both pauses are the same."""

    max_retries: int
    shortest: timedelta
    longest: timedelta

    def pause(self, retries: int) -> timedelta | None:
        """How long to wait before one more retry, after so many; None when that were enough."""
        if self.max_retries != WITHOUT_END and retries >= self.max_retries:
            return None
        return min(self.longest, self.shortest * (1 << min(retries, _DOUBLINGS)))


def read_retry_policy(options: Message | None) -> RetryPolicy | None:
    """Read what the worker says of a function's policy; None when it has none."""
    if options is None:
        return None
    fields = vars(options)
    fixed = fields.get("delay_interval")
    return RetryPolicy(
        max_retries=int(fields["max_retry_count"]),
        shortest=fixed if fixed is not None else fields["minimum_interval"],
        longest=fixed if fixed is not None else fields["maximum_interval"],
    )
