"""Two Airflows in a process of their own, one of which can be made slow: ``python -m benchmarks.airflows``.

They are the tests' fakes. Beside them there are control calls, under `/_local/`, that park tasks, change how long every
answer takes, and tell which tasks were resumed.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from local import serving
from local.control import PREFIX, read_object
from local.json_value import number, text, whole_number
from tests.fakes_http.airflow import FakeAirflow
from tests.fakes_http.airflow_task import PARKED, AirflowTask

NAMES = ("fast", "slow")
PASSWORD = "only-for-the-load"
_LOOK_SECONDS = 0.1
_TASK_ID = 8  # in /api/v2/dags/DAG/dagRuns/RUN/taskInstances/TASK/INDEX/hitlDetails


class SlowableAirflow(FakeAirflow):
    """A fake Airflow that answers every request, the sign-in included, after `delay` seconds.

    A request whose caller has gone takes its effect all the same, as with a real server. `callers` counts those who
    wait for an answer at the moment.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name, PASSWORD)
        self.delay = 0.0
        self.callers = 0
        self.most_callers = 0
        self.parked: list[AirflowTask] = []

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, late if need be."""
        await request.read()
        self.callers += 1
        self.most_callers = max(self.most_callers, self.callers)
        answer_at = time.monotonic() + self.delay
        try:
            # aiohttp does not say that a caller has gone; its transport does.
            while time.monotonic() < answer_at and request.transport is not None:  # noqa: ASYNC110
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            self.callers -= 1
        await asyncio.sleep(max(0.0, answer_at - time.monotonic()))
        return await super().handle(request)

    def park(self, count: int) -> list[AirflowTask]:
        """Make tasks that are parked and wait for an answer."""
        made = [self.task(dag_id="load", task_id=f"copy_{len(self.parked) + index}") for index in range(count)]
        for task in made:
            task.park()
        self.parked += made
        return made

    def resumed(self) -> dict[str, dict[str, float]]:
        """Each answered task with the time of its answer (seconds since the epoch) and the answers that were sent."""
        sent = Counter(patch.path.split("/")[_TASK_ID] for patch in self.patches)
        return {
            task.task_id: {"at": task.question.responded_at.timestamp(), "sent": sent[task.task_id]}
            for task in self.parked
            if task.question is not None and task.question.responded_at is not None
        }


class Control:
    """The control calls."""

    def __init__(self) -> None:
        self.airflows = {name: SlowableAirflow(name) for name in NAMES}

    def application(self) -> web.Application:
        """Serve the control calls, and the Airflows beside them."""
        app = web.Application()
        app.cleanup_ctx.append(self._serve)
        app.add_routes(
            [
                web.post(f"{PREFIX}/tasks", self._park),
                web.post(f"{PREFIX}/delay", self._delay),
                web.get(f"{PREFIX}/airflows/{{name}}", self._show),
                web.get(f"{PREFIX}/airflows/{{name}}/count", self._count),
            ]
        )
        return app

    async def _serve(self, _: web.Application) -> AsyncIterator[None]:
        runners = []
        for airflow in self.airflows.values():
            runner = web.ServerRunner(web.Server(airflow.handle, access_log=None), shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, serving.LOOPBACK, 0).start()
            airflow.url = f"http://{serving.LOOPBACK}:{runner.addresses[0][1]}"
            runners.append(runner)
        yield
        await asyncio.gather(*(runner.cleanup() for runner in runners))

    async def _park(self, request: web.Request) -> web.Response:
        body = await read_object(request)
        tasks = self.airflows[text(body, "target")].park(whole_number(body, "count", 1))
        return web.json_response({"tasks": [_named(task) for task in tasks]})

    async def _delay(self, request: web.Request) -> web.Response:
        body = await read_object(request)
        self.airflows[text(body, "target")].delay = number(body, "seconds", 0)
        return web.json_response({})

    async def _show(self, request: web.Request) -> web.Response:
        airflow = self.airflows[request.match_info["name"]]
        return web.json_response({"resumed": airflow.resumed(), "most_callers": airflow.most_callers})

    async def _count(self, request: web.Request) -> web.Response:
        parked = self.airflows[request.match_info["name"]].parked
        return web.json_response({"resumed": sum(task.state != PARKED for task in parked)})


def _named(task: AirflowTask) -> dict[str, Any]:
    """A task as a wait for it names it."""
    return {
        "dag_id": task.dag_id,
        "run_id": task.run_id,
        "task_id": task.task_id,
        "map_index": task.map_index,
        "try_number": task.try_number,
        "task_instance_id": task.id,
    }


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.airflows", description="Two Airflows, one slow.")
    parser.add_argument("--port", type=int, default=0)
    control = Control()
    serving.run(
        lambda _: control.application(),
        port=parser.parse_args().port,
        facts=lambda _: {"airflows": {name: airflow.url for name, airflow in control.airflows.items()}},
    )


if __name__ == "__main__":
    main()
