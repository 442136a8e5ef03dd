"""The sensor: waits, without polling, for a run that it did not start."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, ClassVar, Literal

from airflow_adf_bridge.airflow_api import DUE, Context
from airflow_adf_bridge.completion import CANCELLED, FAILED, SUCCEEDED
from airflow_adf_bridge.errors import AdfBridgeConfigurationError
from airflow_adf_bridge.hooks import AdfBridgeHook
from airflow_adf_bridge.modes import AUTO, QUEUE
from airflow_adf_bridge.waiting import WaitingTask, as_wait, check_choice, refuse_foreign_connection

_MODES_OF_SENSORS = ("poke", "reschedule")

ENDS = (SUCCEEDED, FAILED, CANCELLED)


class AdfBridgeRunSensor(WaitingTask):
    """Wait for a Data Factory run that somebody else starts: one whose id is known, or a pipeline's next one.

    It is called a sensor because it does what one is used for, and is none of Airflow's: BaseSensorOperator asks again
    and again, from a worker or between reschedules. This task asks the bridge once and waits as
    AdfBridgeRunPipelineOperator does, without a worker slot, until the bridge tells how the run ended. So there is no
    poke_interval, and `timeout` counts anew in each try.

    With `pipeline_name`, it is the earliest run that began at or after `since`, by Data Factory's own account; once
    found, it stays that one. `since` is the same in every try unless you make it depend on the try: a task that is
    retried or cleared after a failed run finds that run again. Leave "Failed" out of `statuses` to wait for the next.

    Returns XCom and raises as AdfBridgeRunPipelineOperator does. XCom `run_id` and the link are there as soon as the
    task knows the run: from the start, or when it ends. This task never cancels the run.

    :param run_id: the run to wait for, anywhere in the factory; the bridge need not have started it (templated)
    :param pipeline_name: the pipeline whose next run is waited for, in place of `run_id` (templated)
    :param since: with pipeline_name, when that run begins at the earliest: a datetime or ISO 8601, with a time zone
        (templated). Default: when this DAG run was due (`dag_run.run_after`); nothing that begins while the task is
        still queued is missed. Where the pipeline may begin before the DAG run, give it a head start:
        `since="{{ dag_run.run_after - macros.timedelta(hours=3) }}"`, or `"{{ data_interval_start }}"`.
    :param statuses: with pipeline_name, the ends that count, of "Succeeded", "Failed" and "Cancelled": a run that ends
        otherwise is passed over, and the next one is waited for. Default: all.
    :param factory_name: the factory: its alias on the bridge, its ARM id, or its name together with the resource group
        (templated). Default: `factory` of the connection.
    :param resource_group_name: the factory's resource group, if the connection has a subscription_id (templated)
    :param adf_bridge_conn_id: the connection to the bridge (templated)
    :param timeout: how long to wait for the run's end, seconds or a timedelta. A shorter execution_timeout wins.
    :param start_timeout: how long the bridge may be out of reach before the task fails
    :param on_failed: what a failed run does to the task: "fail", "skip", or "succeed" where its end is what matters
    :param on_cancelled: what a cancelled run does to the task: "fail", "skip" or "succeed"
    :param mode: as for AdfBridgeRunPipelineOperator: "auto", "resume" or "queue". "poke" and "reschedule", the modes
        of Airflow's sensors, mean "auto": nothing polls.
    :param poke_interval: accepted and without effect
    :param deferrable: accepted and without effect
    :param soft_fail: refused: say it with on_failed and on_cancelled
    :param azure_data_factory_conn_id: refused: the bridge holds the rights on the factory
    """

    template_fields: Sequence[str] = (
        "adf_bridge_conn_id",
        "run_id",
        "pipeline_name",
        "since",
        "factory_name",
        "resource_group_name",
    )
    endings: ClassVar[Sequence[str]] = ("fail", "skip", "succeed")

    def __init__(  # noqa: PLR0913 (each has a name, none is positional)
        self,
        *,
        run_id: str | None = None,
        pipeline_name: str | None = None,
        since: str | datetime | None = None,
        statuses: Sequence[Literal["Succeeded", "Failed", "Cancelled"]] | None = None,
        factory_name: str | None = None,
        resource_group_name: str | None = None,
        adf_bridge_conn_id: str = AdfBridgeHook.default_conn_name,
        timeout: float | timedelta = 60 * 60 * 24 * 7,
        start_timeout: float | timedelta = timedelta(minutes=10),
        on_failed: Literal["fail", "skip", "succeed"] = "fail",
        on_cancelled: Literal["fail", "skip", "succeed"] = "fail",
        poke_interval: float | timedelta | None = None,  # noqa: ARG002
        mode: Literal["auto", "resume", "queue", "poke", "reschedule"] | None = None,
        deferrable: bool | None = None,  # noqa: ARG002
        soft_fail: bool = False,
        azure_data_factory_conn_id: str | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """See the class. Raises AdfBridgeConfigurationError for arguments that cannot work."""
        refuse_foreign_connection(azure_data_factory_conn_id)
        if soft_fail:
            raise AdfBridgeConfigurationError("soft_fail has no use here: set on_failed or on_cancelled to 'skip'.")
        check_choice("on_failed", on_failed, self.endings)
        _check_one_run(run_id, pipeline_name, since=since, statuses=statuses)
        if isinstance(since, datetime) or (isinstance(since, str) and "{" not in since):
            _moment(since)
        super().__init__(
            pipeline_name=pipeline_name,
            factory_name=factory_name,
            resource_group_name=resource_group_name,
            adf_bridge_conn_id=adf_bridge_conn_id,
            timeout=timeout,
            start_timeout=start_timeout,
            on_cancelled=on_cancelled,
            mode=AUTO if mode is None or mode in _MODES_OF_SENSORS else mode,
            **kwargs,
        )
        self.run_id = run_id
        self.since = DUE if since is None and pipeline_name is not None else since
        self.statuses = None if statuses is None else _ends(statuses)
        self.on_failed = on_failed

    def execute(self, context: Context) -> dict[str, Any]:
        """Have the bridge wait for the run, then park until it has ended (or return at once, if it has)."""
        ti: Any = context["ti"]
        mode = self._mode_to_wait_in(ti, instead="wait with a sensor that polls Data Factory itself")
        awaited = self._awaited()
        task_try = self._new_try(ti)
        token, deadline = task_try.token(), self._deadline()
        body = {**awaited, **as_wait(task_try, deadline, mode=mode, on_abandon="leave")}
        answer = self.hook.register_wait(body, patience=self.start_timeout)
        wait = self._keep(ti, answer, token=token, deadline=deadline, registration=body if mode == QUEUE else None)
        if wait["run_id"]:
            self.log.info("Waiting for run %s: %s", wait["run_id"], wait["monitor_url"])
        else:
            wait["what"] = f"a run of pipeline {self.pipeline_name!r} since {awaited['match']['since']}"
            self.log.info("There is no %s yet; the bridge looks out for it.", wait["what"].removeprefix("a "))
        return self._finish_or_park(ti, answer, wait)

    def _awaited(self) -> dict[str, Any]:
        """Return the part of the request that says which run. Raises AdfBridgeConfigurationError if nothing does."""
        if self.run_id:
            return {"factory": self._factory(), "run_id": self.run_id}
        if not self.pipeline_name:
            raise AdfBridgeConfigurationError(
                "There is no run to wait for: run_id and pipeline_name are empty now that their templates are rendered."
            )
        match: dict[str, Any] = {
            "factory": self._factory(),
            "pipeline": self.pipeline_name,
            "since": _moment(self.since).isoformat(),
        }
        if self.statuses is not None:
            match["statuses"] = self.statuses
        return {"match": match}

    def _ending(self, status: str) -> str:
        return self.on_failed if status == FAILED else super()._ending(status)


def _check_one_run(run_id: object, pipeline_name: object, *, since: object | None, statuses: object | None) -> None:
    if (run_id is None) == (pipeline_name is None):
        raise AdfBridgeConfigurationError("Say which run to wait for: either run_id, or pipeline_name (with since).")
    if run_id is not None and (since is not None or statuses is not None):
        raise AdfBridgeConfigurationError("since and statuses belong to pipeline_name: run_id names a single run.")


def _ends(statuses: Sequence[str]) -> list[str]:
    """Return the ends that count. Raises AdfBridgeConfigurationError for anything but a list of some."""
    if isinstance(statuses, str) or not statuses or any(status not in ENDS for status in statuses):
        raise AdfBridgeConfigurationError(f"statuses must be a list of some of {', '.join(ENDS)}, not {statuses!r}.")
    return list(statuses)


def _moment(since: object) -> datetime:
    """Return the time that is told, in UTC. Raises AdfBridgeConfigurationError when none is, or no clear one."""
    try:
        moment = since if isinstance(since, datetime) else datetime.fromisoformat(_with_offset(str(since).strip()))
        if moment.utcoffset() is not None:
            return moment.astimezone(timezone.utc)
    except (ValueError, OverflowError):  # the latter: year 1 or 9999, pushed out by its offset
        raise AdfBridgeConfigurationError(
            f"since must be a time such as 2026-01-31T02:00:00+00:00, not {str(since)!r}."
        ) from None
    raise AdfBridgeConfigurationError(
        f"since needs a time zone, and {str(since)!r} has none: try {{{{ data_interval_start }}}}, or a datetime "
        "with a tzinfo."
    )


def _with_offset(text: str) -> str:
    """Say UTC so that Python 3.10 can read it, too."""
    return f"{text[:-1]}+00:00" if text[-1:] in {"Z", "z"} else text
