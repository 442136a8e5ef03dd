"""The operator: starts a pipeline through the bridge and waits for its run without polling."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import Any, ClassVar, Literal

from airflow_adf_bridge.airflow_api import AirflowSkipException, BaseOperator, Context
from airflow_adf_bridge.completion import CANCELLED, SUCCEEDED, Completion
from airflow_adf_bridge.errors import AdfBridgeConfigurationError, AdfBridgeRunExpired
from airflow_adf_bridge.hooks import AdfBridgeHook
from airflow_adf_bridge.links import MONITOR_URL_KEY, AdfBridgeRunLink
from airflow_adf_bridge.parking import parked, require_resume
from airflow_adf_bridge.token import TaskTry, new_nonce

MARGIN = timedelta(minutes=10)
"""How much longer than its own deadline a task stays parked, so that the bridge can say that it has passed."""

SUBJECT = "Waiting for an Azure Data Factory run. The bridge answers when it ends; an answer given here overrides it."


class AdfBridgeRunPipelineOperator(BaseOperator):
    """Start a Data Factory pipeline, wait for its run in Airflow's `awaiting_input` state, go on when it ends.

    The names are those of Airflow's own AzureDataFactoryRunPipelineOperator. What differs: the run is asked for under a
    key, so that no hiccup starts a second one; nothing polls while the task waits; a failure names the activity and its
    error; nothing that goes wrong while waiting cancels the run.

    Returns (as XCom) run_id, status, pipeline, run_start, run_end, monitor_url. XCom `run_id` is there from the start.
    Raises AdfBridgeRunFailed, AdfBridgeRunCancelled, AdfBridgeRunExpired or AdfBridgeRunUnknown when the run did not
    succeed, and AdfBridgeRefusedError or AdfBridgeUnreachableError when it could not be started. Retries and callbacks
    work as for any task.

    :param pipeline_name: the pipeline (templated)
    :param factory_name: the factory: its alias on the bridge, its ARM id, or its name together with the resource group
        (templated). Default: `factory` of the connection.
    :param resource_group_name: the factory's resource group, if the connection has a subscription_id (templated)
    :param parameters: the pipeline's parameters, anything that JSON can say (templated)
    :param adf_bridge_conn_id: the connection to the bridge (templated)
    :param wait_for_termination: False starts the run and is done
    :param timeout: how long to wait for the run's end, seconds or a timedelta. A shorter execution_timeout wins.
    :param start_timeout: how long the bridge may be out of reach before the start of the run fails the task
    :param on_abandon: what becomes of the run when nobody waits for it any more: "leave" or "cancel"
    :param on_cancelled: what a cancelled run does to the task: "fail" or "skip"
    :param check_interval: accepted and without effect: nothing polls
    :param deferrable: accepted and without effect: a waiting task holds no worker slot either way
    :param azure_data_factory_conn_id: refused: the bridge holds the rights on the factory
    :param reference_pipeline_run_id: refused, like the three that follow: the bridge cannot rerun from a failure yet
    :param is_recovery: refused
    :param start_activity_name: refused
    :param start_from_failure: refused
    """

    template_fields: Sequence[str] = (
        "adf_bridge_conn_id",
        "pipeline_name",
        "factory_name",
        "resource_group_name",
        "parameters",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"parameters": "json"}
    ui_color = "#0678d4"
    ui_fgcolor = "#fff"
    operator_extra_links = (AdfBridgeRunLink(),)

    def __init__(  # noqa: PLR0913 (each has a name, none is positional)
        self,
        *,
        pipeline_name: str,
        factory_name: str | None = None,
        resource_group_name: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        adf_bridge_conn_id: str = AdfBridgeHook.default_conn_name,
        wait_for_termination: bool = True,
        timeout: float | timedelta = 60 * 60 * 24 * 7,
        start_timeout: float | timedelta = timedelta(minutes=10),
        on_abandon: Literal["leave", "cancel"] = "leave",
        on_cancelled: Literal["fail", "skip"] = "fail",
        check_interval: int | None = None,  # noqa: ARG002
        deferrable: bool | None = None,  # noqa: ARG002
        azure_data_factory_conn_id: str | None = None,
        reference_pipeline_run_id: str | None = None,
        is_recovery: bool | None = None,
        start_activity_name: str | None = None,
        start_from_failure: bool | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """See the class. Raises AdfBridgeConfigurationError for arguments that cannot work."""
        super().__init__(**kwargs)
        _refuse_foreign(
            azure_data_factory_conn_id=azure_data_factory_conn_id,
            reference_pipeline_run_id=reference_pipeline_run_id,
            is_recovery=is_recovery,
            start_activity_name=start_activity_name,
            start_from_failure=start_from_failure,
        )
        if on_abandon not in {"leave", "cancel"}:
            raise AdfBridgeConfigurationError(f"on_abandon must be 'leave' or 'cancel', not {on_abandon!r}.")
        if on_cancelled not in {"fail", "skip"}:
            raise AdfBridgeConfigurationError(f"on_cancelled must be 'fail' or 'skip', not {on_cancelled!r}.")
        self.pipeline_name = pipeline_name
        self.factory_name = factory_name
        self.resource_group_name = resource_group_name
        self.parameters = parameters
        self.adf_bridge_conn_id = adf_bridge_conn_id
        self.wait_for_termination = wait_for_termination
        self.timeout = _duration("timeout", timeout)
        self.start_timeout = _duration("start_timeout", start_timeout)
        self.on_abandon = on_abandon
        self.on_cancelled = on_cancelled

    @cached_property
    def hook(self) -> AdfBridgeHook:
        """The hook of this operator's connection."""
        return AdfBridgeHook(self.adf_bridge_conn_id)

    def execute(self, context: Context) -> dict[str, Any]:
        """Start the run, then park until it has ended (or return at once, if it has ended or nobody waits)."""
        ti: Any = context["ti"]
        if self.wait_for_termination:
            require_resume()
            _refuse_slash(ti.run_id)
        task_try = self._new_try(ti)
        token = task_try.token()
        deadline = _now() + self._longest_wait
        # One body for all attempts: the bridge holds a key to one request.
        body = self._request(task_try, deadline)
        answer = self.hook.start_run(body, key=token, patience=self.start_timeout)
        run = answer.get("run") or {}
        run_id, url = run.get("run_id"), run.get("monitor_url") or ""
        ti.xcom_push(key="run_id", value=run_id)
        ti.xcom_push(key=MONITOR_URL_KEY, value=url)
        ti.xcom_push(key="adf_bridge_token", value=token)
        self.log.info("Run %s of pipeline %s: %s", run_id, self.pipeline_name, url)
        if not self.wait_for_termination:
            return Completion.parse({"pipeline": self.pipeline_name, **run}).as_xcom()
        if completed := answer.get("completed"):
            self.log.info("The run has already ended; the task goes on without waiting.")
            return self._finish(Completion.parse(completed))
        wait = {"token": token, "deadline": deadline.isoformat(), "run_id": run_id, "monitor_url": url}
        raise self._parked(ti, wait)

    def execute_complete(
        self,
        context: Context,
        event: Mapping[str, Any] | None = None,
        wait: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Take the outcome that ended the wait, after making sure that it is meant for this try."""
        event, wait = event or {}, wait or {}
        if event.get("error"):
            raise AdfBridgeRunExpired(
                f"Nothing was heard of {_where(wait)} before the task's timeout. The run itself may go on. "
                "Check the bridge's /api/health and the wait's timeline."
            )
        answer = event.get("params_input")
        answer = answer if isinstance(answer, Mapping) else {}
        token = answer.get("token")
        own = wait["token"]
        if token == own:
            return self._finish(Completion.parse(answer))
        if not token:
            return self._finish(self._override(event, wait))
        self.log.warning("An answer came that is meant for an earlier try. Asking the bridge about this one.")
        if completed := self.hook.get_wait(own).get("completed"):
            return self._finish(Completion.parse(completed))
        self.log.info("%s goes on; waiting again.", _where(wait))
        raise self._parked(context["ti"], wait)

    # ---- steps

    def _new_try(self, ti: Any) -> TaskTry:  # noqa: ANN401
        """Draw a nonce, keep it where the bridge can read it, and name this try."""
        nonce = new_nonce()
        ti.xcom_push(key="adf_bridge_nonce", value=nonce)
        ti.xcom_push(key=MONITOR_URL_KEY, value="")  # looked for when the task ends, even if no run was ever started
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

    def _request(self, task_try: TaskTry, deadline: datetime) -> dict[str, Any]:
        body: dict[str, Any] = {
            "factory": self.hook.factory(self.factory_name, self.resource_group_name),
            "pipeline": self.pipeline_name,
        }
        if self.parameters is not None:
            body["parameters"] = _plain(self.parameters)
        if self.wait_for_termination:
            body["wait"] = {
                "target": task_try.target,
                "mode": "resume",
                "task": task_try.as_request(),
                "deadline": deadline.isoformat(),
                "on_abandon": self.on_abandon,
            }
        return body

    @property
    def _longest_wait(self) -> timedelta:
        """The timeout, or the execution_timeout if that is shorter: Airflow does not enforce it on a parked task."""
        return min(self.timeout, self.execution_timeout) if self.execution_timeout else self.timeout

    def _parked(self, ti: Any, wait: Mapping[str, Any]) -> BaseException:  # noqa: ANN401
        left = datetime.fromisoformat(wait["deadline"]) - _now()
        return parked(ti.id, subject=SUBJECT, body="", timeout=max(left, timedelta()) + MARGIN, wait=wait)

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

    def _finish(self, completion: Completion) -> dict[str, Any]:
        if completion.status == SUCCEEDED:
            self.log.info("Run %s succeeded (%s to %s).", completion.run_id, completion.run_start, completion.run_end)
            return completion.as_xcom()
        error = completion.error()
        if completion.status == CANCELLED and self.on_cancelled == "skip":
            raise AirflowSkipException(str(error))
        raise error


def _where(wait: Mapping[str, Any]) -> str:
    return f"run {wait.get('run_id')} ({wait.get('monitor_url') or 'no link'})"


def _refuse_foreign(**arguments: object) -> None:
    """Refuse arguments of Airflow's own operator that would silently mean something else here."""
    if arguments.pop("azure_data_factory_conn_id") is not None:
        raise AdfBridgeConfigurationError(
            "azure_data_factory_conn_id has no use here: the bridge holds the rights on the factory. Remove it, and "
            "name the connection to the bridge in adf_bridge_conn_id."
        )
    if asked := [name for name, value in arguments.items() if value]:
        raise AdfBridgeConfigurationError(f"The bridge cannot rerun from a failure yet: remove {', '.join(asked)}.")


def _refuse_slash(run_id: str) -> None:
    if "/" in run_id:
        raise AdfBridgeConfigurationError(
            f"Airflow's REST API cannot address the DAG run id {run_id!r}, for its slash: the bridge could not "
            "resume this task. No run was started. Trigger the DAG under another run id."
        )


def _duration(name: str, value: float | timedelta) -> timedelta:
    duration = value if isinstance(value, timedelta) else timedelta(seconds=value)
    if duration <= timedelta():
        raise AdfBridgeConfigurationError(f"{name} must be longer than nothing.")
    return duration


def _plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters as JSON would carry them. Raises AdfBridgeConfigurationError when it cannot."""
    try:
        plain = json.loads(json.dumps(dict(parameters), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise AdfBridgeConfigurationError(f"parameters must be plain JSON: {error}. No run was started.") from None
    return dict(plain)


def _now() -> datetime:
    return datetime.now(timezone.utc)
