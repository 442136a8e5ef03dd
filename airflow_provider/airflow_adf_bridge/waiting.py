"""What every waiting task does: it steps aside, takes only the answer that is meant for it, and ends as the run did."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import Any, ClassVar

from airflow_adf_bridge.airflow_api import AirflowSkipException, BaseOperator, Context
from airflow_adf_bridge.completion import CANCELLED, SUCCEEDED, Completion
from airflow_adf_bridge.errors import AdfBridgeConfigurationError, AdfBridgeListenerError, AdfBridgeRunExpired
from airflow_adf_bridge.hooks import AdfBridgeHook
from airflow_adf_bridge.links import MONITOR_URL_KEY, AdfBridgeRunLink
from airflow_adf_bridge.modes import MODES, RESUME, mode_of
from airflow_adf_bridge.parking import deferred, parked, require_resume
from airflow_adf_bridge.token import TaskTry, new_nonce
from airflow_adf_bridge.triggers import AdfBridgeTrigger

MARGIN = timedelta(minutes=10)
"""How much longer than its own deadline a task stays parked, so that the bridge can say that it has passed."""

SUBJECT = "Waiting for an Azure Data Factory run. The bridge answers when it ends; an answer given here overrides it."


class WaitingTask(BaseOperator):
    """The base of the tasks that wait for a run; which run, and how it comes to be waited for, says a subclass.

    A subclass asks the bridge in its `execute` and hands the answer to `_finish_or_park`. From there Airflow goes on in
    `execute_complete`.
    """

    endings: ClassVar[Sequence[str]] = ("fail", "skip")
    """What a run that did not succeed may do to the task."""

    ui_color = "#0678d4"
    ui_fgcolor = "#fff"
    operator_extra_links = (AdfBridgeRunLink(),)

    def __init__(
        self,
        *,
        pipeline_name: str | None,
        factory_name: str | None,
        resource_group_name: str | None,
        adf_bridge_conn_id: str,
        timeout: float | timedelta,
        start_timeout: float | timedelta,
        on_cancelled: str,
        mode: str,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """Keep what all waiting tasks are told. Raises AdfBridgeConfigurationError for arguments that cannot work."""
        super().__init__(**kwargs)
        check_choice("on_cancelled", on_cancelled, self.endings)
        check_choice("mode", mode, MODES)
        self.pipeline_name = pipeline_name
        self.factory_name = factory_name
        self.resource_group_name = resource_group_name
        self.adf_bridge_conn_id = adf_bridge_conn_id
        self.timeout = _duration("timeout", timeout)
        self.start_timeout = _duration("start_timeout", start_timeout)
        self.on_cancelled = on_cancelled
        self.mode = mode

    @cached_property
    def hook(self) -> AdfBridgeHook:
        """The hook of this task's connection."""
        return AdfBridgeHook(self.adf_bridge_conn_id)

    def execute_complete(
        self,
        context: Context,
        event: Mapping[str, Any] | None = None,
        wait: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Take the outcome that ended the wait, after making sure that it is meant for this try."""
        ti: Any = context["ti"]
        event, wait = event or {}, wait or {}
        if event.get("error_type") not in (None, "timeout"):
            raise AdfBridgeListenerError(f"{event['error']} What was waited for: {_where(wait)}.")
        if event.get("error"):
            raise AdfBridgeRunExpired(
                f"Nothing was heard of {_where(wait)} before the task's timeout. The run itself may go on. "
                "Check the bridge's /api/health and the wait's timeline."
            )
        answer = event.get("params_input") if "params_input" in event else event
        answer = answer if isinstance(answer, Mapping) else {}
        token = answer.get("token")
        own = wait["token"]
        if token == own:
            return self._finish(ti, Completion.parse(answer), wait)
        if not token:
            return self._finish(ti, self._override(event, wait), wait)
        self.log.warning("An answer came that is meant for an earlier try. Asking the bridge about this one.")
        if completed := self.hook.get_wait(own).get("completed"):
            return self._finish(ti, Completion.parse(completed), wait)
        self.log.info("Still no end of %s; waiting again.", _where(wait))
        raise self._parked(ti, wait)

    # ---- steps

    def _mode_to_wait_in(self, ti: Any, *, instead: str) -> str:  # noqa: ANN401
        """Return resume or queue. Ask before the bridge is asked for anything.

        Raises AdfBridgeConfigurationError when this task could not be completed in that mode.
        """
        mode = mode_of(self.mode, self.hook.mode)
        if mode == RESUME:
            require_resume(instead=instead)
            _refuse_slash(ti.run_id)
        else:
            _ = self.hook.completions_queue
        return mode

    def _new_try(self, ti: Any) -> TaskTry:  # noqa: ANN401
        """Draw a nonce, keep it where the bridge can read it, and name this try."""
        nonce = new_nonce()
        ti.xcom_push(key="adf_bridge_nonce", value=nonce)
        ti.xcom_push(key=MONITOR_URL_KEY, value="")  # looked for when the task ends, even if there was never a run
        identity = getattr(ti, "id", None)
        return TaskTry(
            target=self.hook.target,
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            task_id=ti.task_id,
            map_index=-1 if ti.map_index is None else ti.map_index,
            try_number=ti.try_number,
            task_instance_id=None if identity is None else str(identity),
            nonce=nonce,
        )

    def _factory(self) -> str:
        return self.hook.factory(self.factory_name, self.resource_group_name)

    def _deadline(self) -> datetime:
        """The end of the timeout, or of the execution_timeout: Airflow does not enforce that on a parked task."""
        return _now() + self._longest()

    def _longest(self) -> timedelta:
        return min(self.timeout, self.execution_timeout) if self.execution_timeout else self.timeout

    def _keep(
        self,
        ti: Any,  # noqa: ANN401
        answer: Mapping[str, Any],
        *,
        token: str,
        deadline: datetime,
        registration: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Push the run, as far as the bridge knows it, and return what a waiting task has to remember.

        `registration` is the wait as a listener registers it, in mode queue.
        """
        run = answer.get("run") or {}
        wait = {
            "token": token,
            "deadline": deadline.isoformat(),
            "run_id": run.get("run_id"),
            "monitor_url": run.get("monitor_url") or "",
        }
        if registration is not None:
            wait["registration"] = dict(registration)
        _push_run(ti, wait)
        ti.xcom_push(key="adf_bridge_token", value=token)
        return wait

    def _finish_or_park(self, ti: Any, answer: Mapping[str, Any], wait: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ANN401
        """Return how the run ended, if the answer tells; else park. `wait["what"]` describes a run not yet known."""
        if completed := answer.get("completed"):
            self.log.info("The run has already ended; the task goes on without waiting.")
            return self._finish(ti, Completion.parse(completed), wait)
        raise self._parked(ti, wait)

    def _parked(self, ti: Any, wait: Mapping[str, Any]) -> BaseException:  # noqa: ANN401
        left = datetime.fromisoformat(wait["deadline"]) - _now()
        timeout = max(left, timedelta()) + MARGIN
        registration = wait.get("registration")
        if registration is None:
            return parked(ti.id, subject=SUBJECT, body="", timeout=timeout, wait=wait)
        trigger = AdfBridgeTrigger(
            self.adf_bridge_conn_id, wait["token"], registration, cancel=self._is_cancelled_with_the_task()
        )
        return deferred(trigger, timeout=timeout, wait=wait)

    def _is_cancelled_with_the_task(self) -> bool:
        """Whether the run is cancelled when a person clears or marks the task while it is deferred."""
        return False

    def _override(self, event: Mapping[str, Any], wait: Mapping[str, Any]) -> Completion:
        """Take a person's answer, given in Required Actions, as the outcome."""
        chosen = event.get("chosen_options") or ["Unknown"]
        person = event.get("responded_by_user")
        name = person.get("name") or person.get("id") if isinstance(person, Mapping) else None
        self.log.warning("%s answered %s in Required Actions. The run itself may go on.", name or "Someone", chosen[0])
        return Completion.parse(
            {
                "status": chosen[0],
                "pipeline": self.pipeline_name,
                "run_id": wait.get("run_id"),
                "monitor_url": wait.get("monitor_url"),
                "message": f"So answered by {name or 'a person'} in Required Actions.",
            }
        )

    def _finish(self, ti: Any, completion: Completion, wait: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ANN401
        """End as the run did. The run that was found, or wrapped, replaces what was known of it before."""
        _push_run(ti, {"run_id": completion.run_id, "monitor_url": completion.monitor_url}, before=wait)
        if completion.status == SUCCEEDED:
            run_id = completion.watched_run_id or completion.run_id
            self.log.info("Run %s succeeded (%s to %s).", run_id, completion.run_start, completion.run_end)
            return completion.as_xcom()
        error = completion.error()
        ending = self._ending(completion.status)
        if ending == "succeed":
            self.log.warning("The task goes on although the run did not succeed, as it was told to. %s", error)
            return completion.as_xcom()
        if ending == "skip":
            raise AirflowSkipException(str(error))
        raise error

    def _ending(self, status: str) -> str:
        """What a run that did not succeed does to the task: one of `endings`."""
        return self.on_cancelled if status == CANCELLED else "fail"


def as_wait(
    task_try: TaskTry, deadline: datetime, *, mode: str, on_abandon: str, keep_for_next_try: bool = False
) -> dict[str, Any]:
    """Return the wait as the bridge's API takes it. What changes nothing is not sent: an older bridge refuses it."""
    return {
        "target": task_try.target,
        "mode": mode,
        "task": task_try.as_request(),
        "deadline": deadline.isoformat(),
        "on_abandon": on_abandon,
        **({"keep_for_next_try": True} if keep_for_next_try and on_abandon == "cancel" else {}),
    }


def check_choice(name: str, value: object, choices: Collection[str]) -> None:
    """Raise AdfBridgeConfigurationError when an argument is none of its choices."""
    if value not in choices:
        allowed = " or ".join(repr(choice) for choice in choices)
        raise AdfBridgeConfigurationError(f"{name} must be {allowed}, not {value!r}.")


def refuse_foreign_connection(azure_data_factory_conn_id: str | None) -> None:
    """Refuse the connection of Airflow's own operators: with it, the caller's rights would count."""
    if azure_data_factory_conn_id is not None:
        raise AdfBridgeConfigurationError(
            "azure_data_factory_conn_id has no use here: the bridge holds the rights on the factory. Remove it, and "
            "name the connection to the bridge in adf_bridge_conn_id."
        )


def _push_run(ti: Any, run: Mapping[str, Any], *, before: Mapping[str, Any] | None = None) -> None:  # noqa: ANN401
    """Push what is known of the run to XCom, and was not known before."""
    for key, name in (("run_id", "run_id"), (MONITOR_URL_KEY, "monitor_url")):
        value = run.get(name)
        if value and value != (before or {}).get(name):
            ti.xcom_push(key=key, value=value)


def _where(wait: Mapping[str, Any]) -> str:
    if wait.get("run_id"):
        return f"run {wait['run_id']} ({wait.get('monitor_url') or 'no link'})"
    return wait.get("what") or "the run"


def _refuse_slash(run_id: str) -> None:
    if "/" in run_id:
        raise AdfBridgeConfigurationError(
            f"Airflow's REST API cannot address the DAG run id {run_id!r}, for its slash: the bridge could not "
            "resume this task. Nothing was started. Trigger the DAG under another run id."
        )


def _duration(name: str, value: float | timedelta) -> timedelta:
    duration = value if isinstance(value, timedelta) else timedelta(seconds=value)
    if duration <= timedelta():
        raise AdfBridgeConfigurationError(f"{name} must be longer than nothing.")
    return duration


def _now() -> datetime:
    return datetime.now(timezone.utc)
