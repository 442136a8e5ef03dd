"""Diagnostic records of runs, written to an event hub as Azure Monitor does: late, in whatever order, some twice, some
never, several to a message, and with the runs' parameters in clear text.

The shape is that of records that were really seen; which of the two forms `properties` has is not certain, so both
are written in turn. https://learn.microsoft.com/azure/data-factory/monitor-schema-logs-events
"""

import asyncio
import itertools
import json
import logging
import random
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from local.adf.run import PipelineRun
from local.adf.status import Status, iso, now
from local.control import PREFIX, read_object
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

_log = logging.getLogger(__name__)

_FIELDS = frozenset({"endpoint", "delay_s", "shuffle", "copies", "lose_percent", "seed"})
_CATEGORY = "PipelineRuns"
_NEVER = "1601-01-01T00:00:00Z"
_GATHER_SECONDS = 0.1
_MOST_IN_A_MESSAGE = 5
_PAUSES_SECONDS = (0.1, 0.5, 2.0, 5.0)
_TIMEOUT = aiohttp.ClientTimeout(total=10)


@dataclass(frozen=True, slots=True)
class Switch:
    """How records are written. Shuffled ones come after anything between no time and twice the delay."""

    delay_seconds: float = 0
    shuffle: bool = False
    copies: int = 1
    lose_percent: float = 0

    def to_json(self) -> JsonObject:
        """This switch as the control calls show it."""
        return {
            "delay_s": self.delay_seconds,
            "shuffle": self.shuffle,
            "copies": self.copies,
            "lose_percent": self.lose_percent,
        }


class Diagnostics:
    """A diagnostic setting: tells an event hub of each run's statuses. Without an endpoint it writes nothing."""

    def __init__(self, endpoint: str | None) -> None:
        """Begin to write everything once, in order, and soon. `endpoint` takes the body of a POST as a message."""
        self._endpoint = endpoint
        self._switch = Switch()
        self._random = random.Random(0)
        self._forms = itertools.cycle((False, True))
        self._seen: set[str] = set()
        self._pending: list[tuple[float, JsonObject]] = []
        self._written: list[JsonValue] = []
        self._lost: list[JsonValue] = []
        self._writer: asyncio.Task[None] | None = None

    def set_switch(self, body: JsonObject) -> None:
        """Change how, and where to, records are written from now on. Raises FieldError."""
        reject_unknown(body, _FIELDS)
        lose_percent = number(body, "lose_percent", 0)
        if lose_percent > 100:  # noqa: PLR2004 -- a percentage
            raise FieldError("lose_percent must be 0 to 100")
        self._switch = Switch(
            number(body, "delay_s", 0), flag(body, "shuffle"), whole_number(body, "copies", 1), lose_percent
        )
        self._random = random.Random(whole_number(body, "seed", 0))
        self._endpoint = optional_text(body, "endpoint") or self._endpoint

    def to_json(self) -> JsonObject:
        """The switch, the records that were written (each as often as it was) or lost, and how many still wait."""
        return {
            "switch": self._switch.to_json(),
            "written": self._written,
            "lost": self._lost,
            "pending": len(self._pending),
        }

    def announce(self, run: PipelineRun) -> None:
        """Record the run's present status; of a run that is new here, also that it was queued."""
        if self._endpoint is None:
            return
        if run.id not in self._seen:
            self._seen.add(run.id)
            self._record(run, Status.QUEUED)
        self._record(run, run.status)

    async def close(self) -> None:
        """Write nothing more."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)

    def _record(self, run: PipelineRun, status: Status) -> None:
        fact: JsonObject = {"run_id": run.id, "status": str(status)}
        if self._random.uniform(0, 100) < self._switch.lose_percent:
            self._lost.append(fact)
            return
        for _ in range(self._switch.copies):
            factor = self._random.uniform(0, 2) if self._switch.shuffle else 1
            due = asyncio.get_running_loop().time() + self._switch.delay_seconds * factor
            self._pending.append((due, record(run, status, as_text=next(self._forms))))
            self._written.append(fact)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())

    async def _write(self) -> None:
        """Write what is due, until nothing waits any more."""
        while self._pending:
            await asyncio.sleep(_GATHER_SECONDS)
            time = asyncio.get_running_loop().time()
            due = [one for at, one in self._pending if at <= time]
            self._pending = [(at, one) for at, one in self._pending if at > time]
            if self._switch.shuffle:
                self._random.shuffle(due)
            while due:
                size = self._random.randint(1, _MOST_IN_A_MESSAGE)
                await self._send(json.dumps({"records": due[:size]}).encode())
                due = due[size:]

    async def _send(self, message: bytes) -> None:
        """Send a message, and again a few times; then it is lost: diagnostic settings promise nothing."""
        for pause in (*_PAUSES_SECONDS, None):
            if await self._post(message):
                return
            if pause is not None:
                await asyncio.sleep(pause)
        _log.warning("the event hub did not take a message: it is lost")

    async def _post(self, message: bytes) -> bool:
        try:
            async with (
                aiohttp.ClientSession(timeout=_TIMEOUT) as session,
                session.post(str(self._endpoint), data=message) as answer,
            ):
                return answer.ok
        except (aiohttp.ClientError, TimeoutError):
            return False


def control_routes(diagnostics: Diagnostics) -> list[web.RouteDef]:
    """`GET` and `POST /_local/diagnostics`."""

    async def show(_: web.Request) -> web.Response:
        return web.json_response(diagnostics.to_json())

    async def switch(request: web.Request) -> web.Response:
        diagnostics.set_switch(await read_object(request))
        return web.json_response(diagnostics.to_json())

    path = f"{PREFIX}/diagnostics"
    return [web.get(path, show), web.post(path, switch)]


def record(run: PipelineRun, status: Status, *, as_text: bool) -> JsonObject:
    """What Azure Monitor writes about a run's status; its properties are an object, or JSON in a text."""
    ended = status is run.status and status.ended
    time = iso(now())
    properties = _properties(run, ended=ended)
    return {
        "Level": 2 if status is Status.FAILED else 4,
        "time": time,
        "timestamp": time,
        "resourceId": run.factory.id.upper(),
        "category": _CATEGORY,
        "operationName": f"{run.pipeline.name} - {status}",
        "level": "Error" if status is Status.FAILED else "Informational",
        "correlationId": run.id,
        "runId": run.id,
        "groupId": run.group_id,
        "pipelineName": run.pipeline.name,
        "start": iso(run.start),
        "end": iso(run.end) if ended else _NEVER,
        "status": str(status),
        "location": "local",
        "tags": "{}",
        "EventName": "PipelineRun",
        "properties": json.dumps(properties) if as_text else properties,
    }


def _properties(run: PipelineRun, *, ended: bool) -> JsonObject:
    invoker = run.invoked_by()
    annotations = run.pipeline.properties.get("annotations", [])
    return {
        "Parameters": dict(run.parameters),
        "SystemParameters": {
            "ExecutionStart": iso(run.start),
            "TriggerId": invoker["id"],
            "SubscriptionId": run.factory.subscription,
            "PipelineRunRequestTime": iso(run.start),
        },
        "Predecessors": [{name[0].upper() + name[1:]: value for name, value in invoker.items()}],
        "Annotations": annotations if isinstance(annotations, list) else [],
        "UserProperties": {},
        "Message": run.message if ended else "",
        "FailureType": "UserError" if ended and run.status is Status.FAILED else "",
    }
