"""The errors of Event Grid's endpoints.

See https://learn.microsoft.com/azure/event-grid/post-to-custom-topic#response and
https://learn.microsoft.com/azure/event-grid/troubleshoot-errors
"""

from collections.abc import Mapping
from typing import Self

from aiohttp import web

from local.faults import Fault

_USUAL = {
    400: ("BadRequest", "The request is invalid."),
    401: ("Unauthorized", "The request is not authorized."),
    403: ("Forbidden", "Publishing is rejected due to IpAddress filtering rules."),
    404: ("NotFound", "The topic was not found."),
    413: ("PayloadTooLarge", "The request exceeds the maximum allowed size."),
    429: ("TooManyRequests", "The topic receives more than it may. Please try again later."),
    500: ("InternalServerError", "Internal error has occurred."),
    503: ("ServiceUnavailable", "The service is unavailable now. Please try again later."),
}


class GridError(Exception):
    """A request that a topic refuses, or a subscription that cannot be made."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        """Describe the answer; the code is the usual one of the status unless it is given."""
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code or _USUAL.get(status, ("Error", ""))[0]
        self.headers = dict(headers or {})

    @classmethod
    def of_fault(cls, fault: Fault) -> Self:
        """The error that a planned fault asks for. A fault without a status is an internal error."""
        status = fault.status or 500
        message = fault.message or _USUAL.get(status, ("", "An error was asked for."))[1]
        headers = {} if fault.retry_after is None else {"Retry-After": fault.retry_after}
        return cls(status, message, code=fault.code, headers=headers)

    def response(self) -> web.Response:
        """The error as an answer. Its one detail says the same again, as the service's does."""
        error = {"code": self.code, "message": self.message}
        body = {"error": {**error, "details": [error]}}
        return web.json_response(body, status=self.status, headers=self.headers)
