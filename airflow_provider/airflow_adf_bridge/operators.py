"""The operator: starts a pipeline through the bridge and waits for its run without polling."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Literal

from airflow_adf_bridge.airflow_api import Context
from airflow_adf_bridge.completion import Completion
from airflow_adf_bridge.errors import AdfBridgeConfigurationError
from airflow_adf_bridge.hooks import AdfBridgeHook
from airflow_adf_bridge.token import TaskTry
from airflow_adf_bridge.waiting import WaitingTask, as_wait, check_choice, refuse_foreign_connection


class AdfBridgeRunPipelineOperator(WaitingTask):
    """Start a Data Factory pipeline, wait for its run in Airflow's `awaiting_input` state, go on when it ends.

    The names are those of Airflow's own AzureDataFactoryRunPipelineOperator. What differs: the run is asked for under a
    key, so that no hiccup starts a second one; nothing polls while the task waits; a failure names the activity and its
    error; nothing that goes wrong while waiting cancels the run.

    Returns (as XCom) run_id, watched_run_id (of the run that a wrapper ran, else None), status, pipeline, run_start,
    run_end, monitor_url. XCom `run_id` is there from the start.
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
    :param wrapped: whether the pipeline's wrapper, which tells the bridge how the run ended, is started in its place:
        "auto" if the factory has one, "always" (else nothing is started), or "never". The outcome and the link are
        those of the pipeline's own run. "auto" is what a bridge does unasked and is not sent: an older bridge, which
        knows no wrappers, starts the pipeline itself, and refuses "always" and "never".
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
        wrapped: Literal["auto", "always", "never"] = "auto",
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
        refuse_foreign_connection(azure_data_factory_conn_id)
        _refuse_recovery(
            reference_pipeline_run_id=reference_pipeline_run_id,
            is_recovery=is_recovery,
            start_activity_name=start_activity_name,
            start_from_failure=start_from_failure,
        )
        check_choice("on_abandon", on_abandon, ("leave", "cancel"))
        check_choice("wrapped", wrapped, ("auto", "always", "never"))
        super().__init__(
            pipeline_name=pipeline_name,
            factory_name=factory_name,
            resource_group_name=resource_group_name,
            adf_bridge_conn_id=adf_bridge_conn_id,
            timeout=timeout,
            start_timeout=start_timeout,
            on_cancelled=on_cancelled,
            **kwargs,
        )
        self.parameters = parameters
        self.wait_for_termination = wait_for_termination
        self.on_abandon = on_abandon
        self.wrapped = wrapped

    def execute(self, context: Context) -> dict[str, Any]:
        """Start the run, then park until it has ended (or return at once, if it has ended or nobody waits)."""
        ti: Any = context["ti"]
        if self.wait_for_termination:
            self._require_waiting(ti, instead="set wait_for_termination=False to start the run without waiting for it")
        task_try = self._new_try(ti)
        token, deadline = task_try.token(), self._deadline()
        # One body for all attempts: the bridge holds a key to one request.
        body = self._request(task_try, deadline)
        answer = self.hook.start_run(body, key=token, patience=self.start_timeout)
        wait = self._keep(ti, answer, token=token, deadline=deadline)
        self.log.info("Run %s of pipeline %s: %s", wait["run_id"], self.pipeline_name, wait["monitor_url"])
        if not self.wait_for_termination:
            return Completion.parse({"pipeline": self.pipeline_name, **(answer.get("run") or {})}).as_xcom()
        return self._finish_or_park(ti, answer, wait)

    def _request(self, task_try: TaskTry, deadline: datetime) -> dict[str, Any]:
        body: dict[str, Any] = {"factory": self._factory(), "pipeline": self.pipeline_name}
        if self.parameters is not None:
            body["parameters"] = _plain(self.parameters)
        if self.wrapped != "auto":
            body["wrapped"] = self.wrapped
        if self.wait_for_termination:
            body["wait"] = as_wait(task_try, deadline, on_abandon=self.on_abandon)
        return body


def _refuse_recovery(**arguments: object) -> None:
    """Refuse arguments of Airflow's own operator that would silently mean something else here."""
    if asked := [name for name, value in arguments.items() if value]:
        raise AdfBridgeConfigurationError(f"The bridge cannot rerun from a failure yet: remove {', '.join(asked)}.")


def _plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters as JSON would carry them. Raises AdfBridgeConfigurationError when it cannot."""
    try:
        plain = json.loads(json.dumps(dict(parameters), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise AdfBridgeConfigurationError(f"parameters must be plain JSON: {error}. No run was started.") from None
    return dict(plain)
