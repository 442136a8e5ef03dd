"""Run events on the Event Grid topic, sent by the stand-in itself.

Data Factory sends no such events: on Azure they come from the wrapper pipeline and from diagnostic settings.
Here this one module stands for those sources, so that it can be taken out when they are there.
"""

import asyncio
import json
import logging
from dataclasses import dataclass
from datetime import datetime

import aiohttp

from local.adf.run import PipelineRun
from local.adf.status import Status, iso, now
from local.json_value import JsonObject, JsonValue, flag, number, optional_text, reject_unknown, whole_number

_log = logging.getLogger(__name__)

_FIELDS = frozenset({"run_id", "pipeline", "suppress", "copies", "delay_s"})
_PAUSES_SECONDS = (0.1, 0.5, 2.0)
_TIMEOUT = aiohttp.ClientTimeout(total=10)


@dataclass(frozen=True, slots=True)
class Topic:
    """Where events go, and the key for it. https://learn.microsoft.com/azure/event-grid/post-to-custom-topic."""

    endpoint: str
    key: str


@dataclass(frozen=True, slots=True)
class Switch:
    """How events are sent: not at all, several times each, or late."""

    suppress: bool = False
    copies: int = 1
    delay_seconds: float = 0

    def to_json(self) -> JsonObject:
        """This switch as the control calls show it."""
        return {"suppress": self.suppress, "copies": self.copies, "delay_s": self.delay_seconds}


class RunEvents:
    """Tells the topic of runs that begin to run and of runs that end. Without a topic it says nothing."""

    def __init__(self, topic: Topic | None) -> None:
        """Begin to send everything once and at once."""
        self._topic = topic
        self._default = Switch()
        self._by_run: dict[str, Switch] = {}
        self._by_pipeline: dict[str, Switch] = {}
        self._sent: list[JsonValue] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def set_switch(self, body: JsonObject) -> None:
        """Change how events are sent: of one run, of one pipeline's runs, or of all others. Raises
        FieldError.
        """
        reject_unknown(body, _FIELDS)
        switch = Switch(flag(body, "suppress"), whole_number(body, "copies", 1), number(body, "delay_s", 0))
        run_id, pipeline = optional_text(body, "run_id"), optional_text(body, "pipeline")
        if run_id is not None:
            self._by_run[run_id] = switch
        elif pipeline is not None:
            self._by_pipeline[pipeline.lower()] = switch
        else:
            self._default = switch

    def to_json(self) -> JsonObject:
        """The switches, and what was sent."""
        return {
            "default": self._default.to_json(),
            "runs": {name: switch.to_json() for name, switch in self._by_run.items()},
            "pipelines": {name: switch.to_json() for name, switch in self._by_pipeline.items()},
            "sent": self._sent,
        }

    def announce(self, run: PipelineRun) -> None:
        """Send the event of the run's present status, in the background."""
        if self._topic is None:
            return
        event, send_at = run_event(run, now()), asyncio.get_running_loop().time()
        switch = self._by_run.get(run.id) or self._by_pipeline.get(run.pipeline.name.lower()) or self._default
        for _ in range(0 if switch.suppress else switch.copies):
            task = asyncio.create_task(self._send(self._topic, event, send_at + switch.delay_seconds))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Send nothing more."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _send(self, topic: Topic, event: JsonObject, send_at: float) -> None:
        """Send one event, and again a few times where the topic does not take it."""
        await asyncio.sleep(max(0.0, send_at - asyncio.get_running_loop().time()))
        for pause in (*_PAUSES_SECONDS, None):
            status = await _post(topic, event)
            self._sent.append({"event_id": event["id"], "status": status, "at": iso(now())})
            if status == 200 or pause is None:  # noqa: PLR2004 -- the only answer of a topic that took an event
                return
            await asyncio.sleep(pause)


def run_event(run: PipelineRun, time: datetime) -> JsonObject:
    """The CloudEvent that says what status a run has. Never its parameters or its message: they may hold
    secrets.

    See https://learn.microsoft.com/azure/event-grid/cloud-event-schema
    """
    return {
        "specversion": "1.0",
        "type": f"AdfBridge.PipelineRun.{run.status}",
        "id": f"{run.id}/{run.status}",
        "source": run.factory.id,
        "subject": f"pipelines/{run.pipeline.name}/runs/{run.id}",
        "time": iso(time),
        "datacontenttype": "application/json",
        "data": {
            "runId": run.id,
            "pipelineName": run.pipeline.name,
            "status": str(run.status),
            "runGroupId": run.group_id,
            "runStart": iso(run.start),
            "runEnd": iso(run.end) if run.status is not Status.IN_PROGRESS else None,
            "invokedBy": run.invoked_by(),
        },
    }


async def _post(topic: Topic, event: JsonObject) -> int | None:
    """Post an event to the topic; the answer's status, or None when there was no answer."""
    headers = {"aeg-sas-key": topic.key, "Content-Type": "application/cloudevents+json; charset=utf-8"}
    url = f"{topic.endpoint}?api-version=2018-01-01"
    try:
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT) as session,
            session.post(url, data=json.dumps(event), headers=headers) as answer,
        ):
            if answer.status != 200:  # noqa: PLR2004 -- as above
                _log.warning("the topic answered %s to %s", answer.status, event["id"])
            return answer.status
    except (aiohttp.ClientError, TimeoutError) as error:
        _log.warning("the topic did not answer to %s: %s", event["id"], error)
        return None
