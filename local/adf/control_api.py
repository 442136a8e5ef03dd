"""The control calls of the stand-in: what was called, what should go wrong, which runs should end."""

from aiohttp import web

from local.adf.calls import CallLog
from local.adf.engine import Engine
from local.adf.run import PipelineRun
from local.adf.status import Status
from local.control import PREFIX, read_object, refuse
from local.json_value import FieldError, JsonObject, optional_text, reject_unknown, text

_FINISH_FIELDS = frozenset({"status", "message", "error_code"})


class ControlApi:
    """What tests and the demo may ask of the stand-in."""

    def __init__(self, engine: Engine, calls: CallLog) -> None:
        """Put the parts together."""
        self._engine = engine
        self._calls = calls

    def routes(self) -> list[web.RouteDef]:
        """The calls and their paths."""
        return [
            web.get(f"{PREFIX}/calls", self._show_calls),
            web.delete(f"{PREFIX}/calls", self._forget_calls),
            web.get(f"{PREFIX}/runs", self._show_runs),
            web.post(f"{PREFIX}/runs/{{run_id}}/finish", self._finish),
        ]

    async def _show_calls(self, _: web.Request) -> web.Response:
        return web.json_response(self._calls.to_json())

    async def _forget_calls(self, _: web.Request) -> web.Response:
        self._calls.clear()
        return web.json_response(self._calls.to_json())

    async def _show_runs(self, _: web.Request) -> web.Response:
        return web.json_response({"runs": [_run(run) for run in self._engine.runs.values()]})

    async def _finish(self, request: web.Request) -> web.Response:
        """End a run that has not ended. 409 when it has, or when it is being cancelled."""
        body = await read_object(request)
        reject_unknown(body, _FINISH_FIELDS)
        status = _terminal(text(body, "status"))
        run = self._engine.runs.get(request.match_info["run_id"])
        if run is None:
            return refuse(404, "there is no such run")
        if run.status not in {Status.QUEUED, Status.IN_PROGRESS}:
            return refuse(409, f"the run is {run.status}")
        await self._engine.finish(
            run,
            status,
            message=optional_text(body, "message"),
            error_code=optional_text(body, "error_code") or "LocalFailure",
        )
        return web.json_response({"run": _run(run)})


def _terminal(value: str) -> Status:
    for status in Status:
        if status.ended and status == value:
            return status
    raise FieldError("status must be Succeeded, Failed or Cancelled")


def _run(run: PipelineRun) -> JsonObject:
    """A run as ARM writes it, with its factory and its activities."""
    activities = [run.activity_to_arm(execution) for execution in run.activity_runs]
    return {**run.to_arm(), "factory": run.factory.id, "activities": [*activities]}
