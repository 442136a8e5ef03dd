"""The errors of Azure Resource Manager, in the shape that every Azure client reads.

See https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/common-deployment-errors and, for
the shape, https://github.com/microsoft/api-guidelines/blob/vNext/azure/Guidelines.md#handling-errors
"""

from collections.abc import Mapping
from typing import Self

from aiohttp import web

from local.faults import Fault

# What the service says with a status when nobody asks for particular words.
_USUAL = {
    400: ("BadRequest", "The request is invalid."),
    401: ("InvalidAuthenticationToken", "The access token is invalid."),
    403: (
        "AuthorizationFailed",
        "The client does not have authorization to perform this action over this scope or the scope is invalid.",
    ),
    404: ("ResourceNotFound", "The resource was not found."),
    409: ("Conflict", "The request conflicts with another one."),
    429: ("TooManyRequests", "The number of requests exceeded the limit. Please try again later."),
    500: ("InternalServerError", "Internal error has occurred."),
    503: ("ServiceUnavailable", "The service is unavailable now. Please try again later."),
    504: ("GatewayTimeout", "The gateway did not receive a response within the specified time period."),
}


class ArmError(Exception):
    """A request that ends with an error. `target` is what was at fault, where ADF names it."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        target: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Describe the answer."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.target = target
        self.headers = dict(headers or {})

    @classmethod
    def of_fault(cls, fault: Fault) -> Self:
        """The error that a planned fault asks for. A fault without a status is an internal error."""
        status = fault.status or 500
        code, message = _USUAL.get(status, ("Error", "An error was asked for."))
        headers = {} if fault.retry_after is None else {"Retry-After": fault.retry_after}
        return cls(status, fault.code or code, fault.message or message, headers=headers)

    def response(self) -> web.Response:
        """The error as an answer."""
        error: dict[str, object] = {"code": self.code, "message": self.message}
        if self.target is not None:
            error["target"] = self.target
        if self.status < 500:  # noqa: PLR2004 -- HTTP's border between the caller's faults and the server's
            error["details"] = None
        return web.json_response({"error": error}, status=self.status, headers=self.headers)


def bad_request(message: str, *, target: str | None = None) -> ArmError:
    """The request cannot be understood or is not allowed: 400."""
    return ArmError(400, "BadRequest", message, target=target)


def missing_authorization() -> ArmError:
    """Nobody says who calls: 401, with the challenge that ARM sends."""
    return _unauthorized(
        "AuthenticationFailed",
        "Authentication failed. The 'Authorization' header is missing.",
        "The authentication failed because of missing 'Authorization' header.",
    )


def wrong_token() -> ArmError:
    """The bearer token is none of ours: 401, with the challenge that ARM sends."""
    return _unauthorized(*_USUAL[401], "The access token is invalid.")


def _unauthorized(code: str, message: str, description: str) -> ArmError:
    challenge = (
        'Bearer authorization_uri="https://login.microsoftonline.com/common", '
        f'error="invalid_token", error_description="{description}"'
    )
    return ArmError(401, code, message, headers={"WWW-Authenticate": challenge})
