"""`$management` of a queue: what has no place on the links that messages travel on.

https://learn.microsoft.com/azure/service-bus-messaging/service-bus-amqp-request-response
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from proton import Array, Data, int32

from local.service_bus.amqp.encoding import delivered, from_milliseconds, milliseconds, submission
from local.service_bus.amqp.requests import Reply, Request
from local.service_bus.amqp.settlement import Settlement
from local.service_bus.amqp.value import array
from local.service_bus.errors import EntityDisabledError, MalformedError
from local.service_bus.message import Message
from local.service_bus.queue import Queue
from local.service_bus.sessions import Holder

_VENDOR = "com.microsoft:"
_NO_CONTENT = 204
_RECEIVE_AND_DELETE = 0
_DOTNETS_LAST_DATE = 253_402_300_799_000
"""Where clients want every session, they ask for those updated after the end of time."""

_Body = Mapping[str, Any]


class Management:
    """Answers the operations of one queue."""

    kind = "AmqpControlProtocolClient"
    status_field = "statusCode"
    description_field = "statusDescription"

    def __init__(self, queue: Queue) -> None:
        """Serve `queue`."""
        self._queue = queue
        self._operations: dict[str, Callable[[Request, datetime], Reply]] = {
            "schedule-message": self._schedule,
            "cancel-scheduled-message": self._cancel_scheduled,
            "peek-message": self._peek,
            "receive-by-sequence-number": self._receive_deferred,
            "update-disposition": self._settle,
            "renew-lock": self._renew_lock,
            "renew-session-lock": self._renew_session_lock,
            "get-session-state": self._session_state,
            "set-session-state": self._set_session_state,
            "get-message-sessions": self._sessions,
        }

    def operation(self, request: Request) -> str:
        """The operation, without the vendor's prefix."""
        return str(request.properties.get("operation")).removeprefix(_VENDOR)

    def handle(self, request: Request) -> Reply:
        """Do it. Raises RefusedError."""
        found = self._operations.get(self.operation(request))
        if found is None:
            raise MalformedError(f"There is no operation {self.operation(request)!r} here.")
        return found(request, request.connection.broker.now())

    def _schedule(self, request: Request, _: datetime) -> Reply:
        broker = request.connection.broker
        if broker.read_only:
            raise EntityDisabledError
        taken = [submission(bytes(one["message"])) for one in request.body["messages"]]
        numbers = broker.submit(self._queue, taken)
        return Reply({"sequence-numbers": array(Data.LONG, numbers)})

    def _cancel_scheduled(self, request: Request, now: datetime) -> Reply:
        self._queue.cancel_scheduled(_elements(request.body["sequence-numbers"]), now)
        return Reply()

    def _peek(self, request: Request, now: datetime) -> Reply:
        body: _Body = request.body
        first, count = int(body["from-sequence-number"]), int(body["message-count"])
        messages = self._queue.peek(first, count, now, body.get("session-id"))
        return Reply({"messages": [{"message": delivered(one)} for one in messages]}) if messages else _NOTHING

    def _receive_deferred(self, request: Request, now: datetime) -> Reply:
        body: _Body = request.body
        messages = self._queue.receive_deferred(
            _elements(body["sequence-numbers"]),
            now,
            _holder(request),
            body.get("session-id"),
            delete=int(body["receiver-settle-mode"]) == _RECEIVE_AND_DELETE,
        )
        return Reply({"messages": [_with_lock(one) for one in messages]})

    def _settle(self, request: Request, now: datetime) -> Reply:
        settlement = Settlement.of_request(request.body)
        for token in _elements(request.body["lock-tokens"]):
            settlement.apply(self._queue, _token(token), now)
        return Reply()

    def _renew_lock(self, request: Request, now: datetime) -> Reply:
        until = [self._queue.renew(_token(token), now) for token in _elements(request.body["lock-tokens"])]
        return Reply({"expirations": array(Data.TIMESTAMP, map(milliseconds, until))})

    def _renew_session_lock(self, request: Request, now: datetime) -> Reply:
        until = self._queue.renew_session(request.body.get("session-id"), _holder(request), now)
        return Reply({"expiration": milliseconds(until)})

    def _session_state(self, request: Request, now: datetime) -> Reply:
        self._queue.advance(now)
        return Reply({"session-state": self._queue.sessions.held(request.body["session-id"], _holder(request)).state})

    def _set_session_state(self, request: Request, now: datetime) -> Reply:
        self._queue.advance(now)
        state = request.body.get("session-state")
        session = self._queue.sessions.held(request.body["session-id"], _holder(request))
        self._queue.sessions.set_state(session, None if state is None else bytes(state), now)
        return Reply()

    def _sessions(self, request: Request, now: datetime) -> Reply:
        self._queue.advance(now)
        body: _Body = request.body
        updated, skip, top = int(body["last-updated-time"]), int(body.get("skip") or 0), int(body.get("top") or 100)
        after = from_milliseconds(updated) if updated < _DOTNETS_LAST_DATE else None
        ids = self._queue.sessions.ids(updated_after=after)
        page = ids[skip : skip + top]
        return Reply({"skip": int32(skip + len(page)), "sessions-ids": array(Data.STRING, page)}) if page else _NOTHING


_NOTHING = Reply(status=_NO_CONTENT, description="NoContent")


def _holder(request: Request) -> Holder:
    """The receiver that a request is made for."""
    return request.connection.number, str(request.properties.get("associated-link-name"))


def _elements(values: object) -> list[Any]:
    return list(values.elements) if isinstance(values, Array) else list(values)  # type: ignore[call-overload]


def _token(value: object) -> UUID:
    return value if isinstance(value, UUID) else UUID(str(value))


def _with_lock(message: Message) -> dict[str, Any]:
    shown: dict[str, Any] = {"message": delivered(message)}
    return shown | ({"lock-token": message.lock.token} if message.lock is not None else {})
