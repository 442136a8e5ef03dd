"""Faults on demand: what a service should do wrong to its next calls."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from aiohttp import web

from local.json_value import (
    FieldError,
    JsonObject,
    JsonValue,
    flag,
    number,
    optional_text,
    reject_unknown,
    whole_number,
)

ANY_OPERATION = "*"

_FIELDS = frozenset(
    {"op", "times", "status", "code", "message", "retry_after", "delay_s", "effect", "drop", "run_id", "pipeline"}
)
_LOWEST_ERROR = 400
_HIGHEST_ERROR = 599


@dataclass(slots=True)
class Fault:
    """One fault, for the next `times` calls that it fits.

    `effect` says whether the call takes effect before it goes wrong: with "after" a run starts, and only its
    answer is lost. With neither a status nor `drop`, the call is merely late.
    """

    op: str
    times: int
    status: int | None
    code: str | None
    message: str | None
    retry_after: str | None
    delay_seconds: float
    effect: Literal["before", "after"]
    drop: bool
    run_id: str | None
    pipeline: str | None

    @classmethod
    def from_json(cls, body: JsonValue) -> "Fault":
        """Read a fault from a control call's body. Raises FieldError."""
        if not isinstance(body, dict):
            raise FieldError("a fault must be an object")
        reject_unknown(body, _FIELDS)
        status = body.get("status")
        if status is not None and not (isinstance(status, int) and _LOWEST_ERROR <= status <= _HIGHEST_ERROR):
            raise FieldError("status must be an HTTP error, 400 to 599")
        retry_after = body.get("retry_after")
        if retry_after is not None and not isinstance(retry_after, int | float | str):
            raise FieldError("retry_after must be a number or text")
        effect = optional_text(body, "effect") or "before"
        if effect not in {"before", "after"}:
            message = 'effect must be "before" or "after"'
            raise FieldError(message)
        return cls(
            op=optional_text(body, "op") or ANY_OPERATION,
            times=whole_number(body, "times", 1),
            status=status,
            code=optional_text(body, "code"),
            message=optional_text(body, "message"),
            retry_after=None if retry_after is None else str(retry_after),
            delay_seconds=number(body, "delay_s", 0),
            effect="after" if effect == "after" else "before",
            drop=flag(body, "drop"),
            run_id=optional_text(body, "run_id"),
            pipeline=optional_text(body, "pipeline"),
        )

    def fits(self, op: str, run_id: str | None, pipeline: str | None) -> bool:
        """Whether this fault concerns that call."""
        return (
            self.times > 0
            and self.op in {ANY_OPERATION, op}
            and self.run_id in {None, run_id}
            and self.pipeline in {None, pipeline}
        )

    def to_json(self) -> JsonObject:
        """This fault as the control calls show it."""
        return {
            "op": self.op,
            "times": self.times,
            "status": self.status,
            "code": self.code,
            "message": self.message,
            "retry_after": self.retry_after,
            "delay_s": self.delay_seconds,
            "effect": self.effect,
            "drop": self.drop,
            "run_id": self.run_id,
            "pipeline": self.pipeline,
        }


class FaultPlan:
    """The faults that are still to come, in the order they were asked for."""

    def __init__(self) -> None:
        """Begin with a service that does nothing wrong."""
        self._faults: list[Fault] = []

    def add(self, faults: Iterable[Fault]) -> None:
        """Plan more faults."""
        self._faults.extend(faults)

    def clear(self) -> None:
        """Do nothing wrong from now on."""
        self._faults.clear()

    def take(self, op: str, *, run_id: str | None = None, pipeline: str | None = None) -> Fault | None:
        """The fault for this call, if there is one: the first that fits, which is thereby used once."""
        for fault in self._faults:
            if fault.fits(op, run_id, pipeline):
                fault.times -= 1
                self._faults = [planned for planned in self._faults if planned.times > 0]
                return fault
        return None

    def to_json(self) -> JsonObject:
        """What is planned."""
        return {"faults": [fault.to_json() for fault in self._faults]}


def read_faults(body: JsonValue) -> list[Fault]:
    """Read the body of `POST /_local/faults`: one fault, a list, or {"faults": [...]}. Raises FieldError."""
    if isinstance(body, dict) and "faults" in body:
        body = body["faults"]
    return [Fault.from_json(item) for item in (body if isinstance(body, list) else [body])]


async def perform(
    request: web.Request,
    fault: Fault | None,
    act: Callable[[], Awaitable[web.Response]],
    error: Callable[[Fault], web.Response],
) -> web.Response:
    """Do what a request asks for, as far as the fault lets it. `error` is the answer of a fault with a
    status.
    """
    if fault is None:
        return await act()
    response = await act() if fault.effect == "after" else None
    await asyncio.sleep(fault.delay_seconds)
    if fault.drop:
        return _drop_connection(request)
    if fault.status is not None:
        return error(fault)
    return response or await act()


def _drop_connection(request: web.Request) -> web.Response:
    """Cut the caller's connection. The response that is returned can no longer be sent."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
