"""What is done to the bridge: runs are started with waits for them, end, and are told about by Event Grid."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

from benchmarks.stage import PIPELINE, Stage
from bridge.model import TaskRef
from local.local_azure import FACTORY_ALIAS, FACTORY_ID

_PREPARED_AT_ONCE: Final = 4
_TOLD_EVERY: Final = 1_000
_ACCEPTED: Final = range(200, 300)
# Event Grid waits this long for an answer. https://learn.microsoft.com/azure/event-grid/delivery-and-retry
_ANSWER_WITHIN: Final = timedelta(seconds=30)
_DEADLINE: Final = timedelta(hours=2)
_PAGE: Final = 500
# Event Grid tells of an end some time after it; and a local Data Factory that is slow for a moment holds up no event.
_ENDED_BEFORE: Final = timedelta(seconds=1)
_TIMEOUT: Final = aiohttp.ClientTimeout(total=120)

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A parked task that waits for a run."""

    target: str
    task_id: str
    run_id: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event's delivery. Times are seconds since the epoch; a status of 0 is no answer at all.

    `late` is by how many seconds it was sent behind the plan: the sign of a machine that is busy otherwise.
    """

    waiting: Waiting
    sent_at: float
    answered_at: float
    status: int
    late: float

    @property
    def answered_after(self) -> float:
        """Seconds until the webhook answered."""
        return self.answered_at - self.sent_at

    @property
    def accepted(self) -> bool:
        """Whether Event Grid would be content: 2xx, and in time."""
        return self.status in _ACCEPTED and self.answered_after <= _ANSWER_WITHIN.total_seconds()


class Load:
    """Drives the stage. Connections are kept and there is no limit on them."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=_TIMEOUT)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def prepare(self, counts: Sequence[tuple[str, int]], tell: Callable[[str], None]) -> dict[str, list[Waiting]]:
        """Park so many tasks per target and start a run for each, by `POST /runs` with a wait.

        Before that, asking for the bridge's health makes it sign in to both targets, as one that has been running has.
        """
        await self._json("GET", f"{self._stage.api}/health", headers=self._stage.api_headers)
        jobs = [(name, task) for name, count in counts for task in await self._park(name, count)]
        places = asyncio.Semaphore(_PREPARED_AT_ONCE)
        made: dict[str, list[Waiting]] = {name: [] for name, _ in counts}
        done = 0

        async def start(target: str, task: Json) -> None:
            nonlocal done
            async with places:
                made[target].append(await self._start(target, task))
            done += 1
            if done % _TOLD_EVERY == 0 or done == len(jobs):
                tell(f"{done} of {len(jobs)} runs are waited for")

        async with asyncio.TaskGroup() as group:
            for target, task in jobs:
                group.create_task(start(target, task))
        return made

    async def tell_of_ends(self, plan: Sequence[Waiting], rate: float, tell: Callable[[str], None]) -> list[Delivery]:
        """End a run and deliver its event, `rate` times a second; none of them waits for the answer to another."""
        ahead = _ENDED_BEFORE.total_seconds()
        begin = time.monotonic() + ahead
        under_way: list[asyncio.Task[Delivery]] = []
        async with asyncio.TaskGroup() as group:
            for number, waiting in enumerate(plan):
                at = begin + number / rate
                await asyncio.sleep(max(0.0, at - ahead - time.monotonic()))
                under_way.append(group.create_task(self._end(waiting, at)))
                if len(under_way) % _TOLD_EVERY == 0:
                    tell(f"{len(under_way)} of {len(plan)} events are sent")
        return [one.result() for one in under_way]

    async def set_delay(self, target: str, seconds: float) -> None:
        """Let every answer of an Airflow take so long."""
        await self._control("POST", "delay", {"target": target, "seconds": seconds})

    async def airflow(self, name: str) -> Json:
        """What an Airflow tells of itself: the `resumed` tasks, and the `most_callers` at once."""
        return await self._control("GET", f"airflows/{name}")

    async def resumed(self, name: str) -> int:
        """How many tasks of an Airflow have been resumed."""
        return int((await self._control("GET", f"airflows/{name}/count"))["resumed"])

    async def tokens(self, target: str, state: str) -> set[str]:
        """The tokens of a target's waits in a state, by the bridge's own list."""
        found, cursor = set[str](), ""
        while True:
            query = {"target": target, "state": state, "limit": str(_PAGE), **({"cursor": cursor} if cursor else {})}
            page = await self._json("GET", f"{self._stage.api}/waits", params=query, headers=self._stage.api_headers)
            found |= {wait["token"] for wait in page["waits"]}
            cursor = page["next"] or ""
            if not cursor:
                return found

    async def _park(self, target: str, count: int) -> list[Json]:
        made = await self._control("POST", "tasks", {"target": target, "count": count})
        return list(made["tasks"])

    async def _start(self, target: str, task: Json) -> Waiting:
        named = {**task, "nonce": uuid.uuid4().hex}
        deadline = (datetime.now(UTC) + _DEADLINE).isoformat()
        body = {
            "factory": FACTORY_ALIAS,
            "pipeline": PIPELINE,
            "wrapped": "never",  # a wrapper would tell of the end, and every event comes from here
            "wait": {"target": target, "mode": "resume", "task": named, "deadline": deadline},
        }
        headers = {**self._stage.api_headers, "Idempotency-Key": TaskRef(target=target, **named).token}
        answer = await self._json("POST", f"{self._stage.api}/runs", json=body, headers=headers)
        return Waiting(target, task["task_id"], answer["run"]["run_id"])

    async def _end(self, waiting: Waiting, at: float) -> Delivery:
        """End the run in Data Factory, then tell the bridge at its time, as Event Grid does: one event per request."""
        url = f"{self._stage.azure.adf.url}/_local/runs/{waiting.run_id}/finish"
        await self._json("POST", url, json={"status": "Succeeded"})
        await asyncio.sleep(max(0.0, at - time.monotonic()))
        late, sent_at = time.monotonic() - at, time.time()
        try:
            async with self._client.post(
                self._stage.webhook, json=_event(waiting.run_id), headers={"aeg-event-type": "Notification"}
            ) as answer:
                await answer.read()
                status = answer.status
        except (aiohttp.ClientError, TimeoutError):
            status = 0
        return Delivery(waiting, sent_at, time.time(), status, late)

    async def _control(self, method: str, path: str, body: Json | None = None) -> Json:
        return await self._json(method, f"{self._stage.airflows}/_local/{path}", json=body)

    async def _json(self, method: str, url: str, **options: Any) -> Json:  # noqa: ANN401 - passed on as it is
        async with self._client.request(method, url, **options) as answer:
            answer.raise_for_status()
            return dict(await answer.json())

    @property
    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("enter the load first")
        return self._session


def _event(run_id: str) -> Json:
    """The CloudEvent that says that a run succeeded."""
    return {
        "specversion": "1.0",
        "type": "AdfBridge.PipelineRun.Succeeded",
        "id": f"{run_id}/Succeeded",
        "source": FACTORY_ID,
        "subject": f"pipelines/{PIPELINE}/runs/{run_id}",
        "time": datetime.now(UTC).isoformat(),
        "datacontenttype": "application/json",
        "data": {"runId": run_id, "pipelineName": PIPELINE, "status": "Succeeded"},
    }
