"""What Service Bus refuses, by AMQP error condition and by the status code of a management reply.

https://learn.microsoft.com/azure/service-bus-messaging/service-bus-amqp-troubleshoot
"""


class RefusedError(Exception):
    """An operation is refused. `condition` is the AMQP error condition, `status` that of a management reply."""

    condition = "amqp:internal-error"
    status = 500

    def __init__(self, description: str, *, condition: str | None = None, status: int | None = None) -> None:
        """`description` is what the client's exception will say."""
        super().__init__(description)
        self.description = description
        self.condition = condition or self.condition
        self.status = status or self.status


class MessageLockLostError(RefusedError):
    """The lock of a message has expired, or the message is settled or gone."""

    condition, status = "com.microsoft:message-lock-lost", 410

    def __init__(self) -> None:
        """Say what Service Bus says."""
        super().__init__(
            "The lock supplied is invalid. Either the lock expired, or the message has already been removed from the "
            "queue."
        )


class MessageNotFoundError(RefusedError):
    """No such message has been deferred or scheduled."""

    condition, status = "com.microsoft:message-not-found", 404


class SessionLockLostError(RefusedError):
    """The lock of a session has expired, or another receiver holds it."""

    condition, status = "com.microsoft:session-lock-lost", 410

    def __init__(self, session_id: str | None) -> None:
        """Say which session it was."""
        super().__init__(f"The session lock has expired on the session '{session_id}'. Accept a new session.")


class SessionCannotBeLockedError(RefusedError):
    """Another receiver holds the session."""

    condition, status = "com.microsoft:session-cannot-be-locked", 409

    def __init__(self, session_id: str) -> None:
        """Say which session it is."""
        super().__init__(
            f"The requested session '{session_id}' cannot be accepted. It may be locked by another receiver."
        )


class NotAllowedError(RefusedError):
    """The entity does not take part in such a thing."""

    condition, status = "amqp:not-allowed", 400


class EntityNotFoundError(RefusedError):
    """There is no such queue."""

    condition, status = "amqp:not-found", 404

    def __init__(self, address: str) -> None:
        """Say which queue was asked for."""
        super().__init__(f"The messaging entity '{address}' could not be found.")


class EntityDisabledError(RefusedError):
    """The queue takes no messages for now."""

    condition, status = "com.microsoft:entity-disabled", 400

    def __init__(self) -> None:
        """Say what Service Bus says."""
        super().__init__("Messaging entity is currently disabled.")


class TimedOutError(RefusedError):
    """Nothing came within the time that the client gave."""

    condition, status = "com.microsoft:timeout", 408


class UnauthorizedError(RefusedError):
    """No token, or not a good one."""

    condition, status = "amqp:unauthorized-access", 401


class MalformedError(RefusedError):
    """A request that does not say what it must."""

    condition, status = "com.microsoft:argument-error", 400


class TooLargeError(RefusedError):
    """A message above the limit of the tier."""

    condition, status = "amqp:link:message-size-exceeded", 403
