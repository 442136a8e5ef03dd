"""The operator: starts a pipeline through the bridge and waits for its run without polling."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Literal

from airflow_adf_bridge.airflow_api import Context
from airflow_adf_bridge.completion import Completion
from airflow_adf_bridge.errors import AdfBridgeConfigurationError, AdfBridgeRunCancelled
from airflow_adf_bridge.hooks import AdfBridgeHook
from airflow_adf_bridge.killing import cancel_in_time
from airflow_adf_bridge.modes import QUEUE
from airflow_adf_bridge.recovery import RecoveryArguments
from airflow_adf_bridge.token import TaskTry
from airflow_adf_bridge.tries import Tries
from airflow_adf_bridge.waiting import WaitingTask, as_wait, check_choice, refuse_foreign_connection


class AdfBridgeRunPipelineOperator(WaitingTask):
    """Start a Data Factory pipeline, wait for its run without a worker, go on when it ends.

    The names are those of Airflow's own AzureDataFactoryRunPipelineOperator. What differs: the run is asked for under a
    key, so that no hiccup starts a second one; a retry goes on with the run of the try before, if that still runs;
    nothing polls while the task waits; a failure names the activity and its error; nothing that goes wrong while
    waiting cancels the run.

    Returns (as XCom) run_id, watched_run_id (of the run that a wrapper ran, else None), status, pipeline, run_start,
    run_end, monitor_url. XCom `run_id` is there from the start.
    Raises AdfBridgeRunFailed, AdfBridgeRunCancelled, AdfBridgeRunExpired or AdfBridgeRunUnknown when the run did not
    succeed, and AdfBridgeRefusedError or AdfBridgeUnreachableError when it could not be started; in mode queue
    AdfBridgeListenerError when the triggerer could not listen for its end. Retries and callbacks work as for any task.

    :param pipeline_name: the pipeline (templated)
    :param factory_name: the factory: its alias on the bridge, its ARM id, or its name together with the resource group
        (templated). Default: `factory` of the connection.
    :param resource_group_name: the factory's resource group, if the connection has a subscription_id (templated)
    :param parameters: the pipeline's parameters, anything that JSON can say (templated)
    :param adf_bridge_conn_id: the connection to the bridge (templated)
    :param wait_for_termination: False starts the run and is done
    :param timeout: how long to wait for the run's end, seconds or a timedelta. A shorter execution_timeout wins.
    :param start_timeout: how long the bridge may be out of reach before the start of the run fails the task
    :param on_retry: what a retry does about the run of the try before, if pipeline and parameters are the same:
        "reattach" waits for it if it still runs, or has succeeded meanwhile; "recover" does that, too, and a run that
        failed is run again from the failed activity on, in its run group; "rerun" starts a run of its own. What cannot
        be done is done as a "rerun", and the log says why. With wait_for_termination=False it is always "rerun".
    :param on_clear: the same for the first try after the task was cleared, but that a run that has succeeded is not
        taken for this try's. Airflow does not tell a try that it follows a clear; see `Tries.after`. Where a DAG's
        author has changed `retries` since the task's first try, or since it was cleared, the one may be taken for the
        other.
    :param on_abandon: what becomes of the run when nobody waits for it any more: "leave" or "cancel". It is not
        abandoned while a next try may go on with it.
    :param on_cancelled: what a cancelled run does to the task: "fail" or "skip"
    :param wrapped: whether the pipeline's wrapper, which tells the bridge how the run ended, is started in its place:
        "auto" if the factory has one, "always" (else nothing is started), or "never". The outcome and the link are
        those of the pipeline's own run. "auto" is what a bridge does unasked and is not sent: an older bridge, which
        knows no wrappers, starts the pipeline itself, and refuses "always" and "never".
    :param mode: how the task waits and is completed: "resume" parks it in `awaiting_input` (Airflow 3.3; the bridge
        calls Airflow), "queue" defers it (Airflow 2.10; Airflow listens to a Service Bus queue). "auto" is what the
        connection's extra says, else resume where Airflow has it, else queue.
    :param check_interval: accepted and without effect: nothing polls
    :param deferrable: accepted and without effect: a waiting task holds no worker slot either way
    :param azure_data_factory_conn_id: refused: the bridge holds the rights on the factory
    :param reference_pipeline_run_id: an earlier run that is run again, in its run group and with its parameters; with
        is_recovery=True and without parameters (templated)
    :param is_recovery: see reference_pipeline_run_id
    :param start_activity_name: where it begins again: at this activity, or
    :param start_from_failure: at the activity that failed; with neither of the two, at its first
    """

    template_fields: Sequence[str] = (
        "adf_bridge_conn_id",
        "pipeline_name",
        "factory_name",
        "resource_group_name",
        "parameters",
        "reference_pipeline_run_id",
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
        on_retry: Literal["reattach", "recover", "rerun"] = "reattach",
        on_clear: Literal["rerun", "reattach", "recover"] = "rerun",
        on_abandon: Literal["leave", "cancel"] = "leave",
        on_cancelled: Literal["fail", "skip"] = "fail",
        wrapped: Literal["auto", "always", "never"] = "auto",
        mode: Literal["auto", "resume", "queue"] = "auto",
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
        recovery = RecoveryArguments.check(
            reference_pipeline_run_id=reference_pipeline_run_id,
            is_recovery=is_recovery,
            start_activity_name=start_activity_name,
            start_from_failure=start_from_failure,
            parameters=parameters,
        )
        check_choice("on_retry", on_retry, ("reattach", "recover", "rerun"))
        check_choice("on_clear", on_clear, ("rerun", "reattach", "recover"))
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
            mode=mode,
            **kwargs,
        )
        self.parameters = parameters
        self.reference_pipeline_run_id = reference_pipeline_run_id
        self.recovery = recovery
        self.wait_for_termination = wait_for_termination
        self.on_retry = on_retry
        self.on_clear = on_clear
        self.on_abandon = on_abandon
        self.wrapped = wrapped

    def execute(self, context: Context) -> dict[str, Any]:
        """Start the run, then park until it has ended (or return at once, if it has ended or nobody waits)."""
        ti: Any = context["ti"]
        mode = ""
        if self.wait_for_termination:
            instead = "set wait_for_termination=False to start the run without waiting for it"
            mode = self._mode_to_wait_in(ti, instead=instead)
        tries = Tries.of(ti, self.retries)
        task_try = self._new_try(ti)
        token, deadline = task_try.token(), self._deadline()
        # One body for all attempts: the bridge holds a key to one request.
        body = self._request(task_try, deadline, tries, mode)
        self._at_stake = self._is_cancelled_with(tries)
        answer = self.hook.start_run(body, key=token, patience=self.start_timeout, queue_patience=self._longest())
        self._token_at_stake = token
        self._run_at_stake = (answer.get("run") or {}).get("run_id")
        registration = None
        if mode == QUEUE:
            registration = {"factory": body["factory"], "run_id": self._run_at_stake, **body["wait"]}
        wait = self._keep(ti, answer, token=token, deadline=deadline, registration=registration)
        self._tell(answer, wait, asked=body.get("previous"))
        if not self.wait_for_termination:
            return Completion.parse({"pipeline": self.pipeline_name, **(answer.get("run") or {})}).as_xcom()
        return self._finish_or_park(ti, answer, wait)

    def on_kill(self) -> None:
        """Cancel the run of a task that is ended before it has parked, if on_abandon says so and no try may take it.

        Airflow calls this in a signal handler (see `killing`), or after an execution_timeout.
        """
        if not self._at_stake:
            return
        self._at_stake = False
        if not self._run_at_stake:
            self.log.warning(
                "The task was told to end before the bridge said which run it has. If there is one, the bridge cancels "
                "it once two looks at the task have shown that nobody waits for it."
            )
            return
        run_id = self._run_at_stake
        said = cancel_in_time(self.hook, run_id, self._token_at_stake)
        if said == "accepted":
            self._cancelled = run_id
            self.log.warning("The task was told to end, and no try takes its run over: run %s is cancelled.", run_id)
        elif said == "waited-for":
            self.log.info("The task was told to end. Another task waits for run %s: it goes on.", run_id)
        elif said == "not-running":
            self.log.info("The task was told to end. Run %s has ended already.", run_id)
        else:
            self.log.warning(
                "The task was told to end, and run %s could not be cancelled: %s. The bridge cancels it once two looks "
                "at the task have shown that nobody waits for it.",
                run_id,
                said,
            )

    _at_stake = False
    """Whether on_kill cancels the run that this try has, or is asking for."""
    _run_at_stake: str | None = None
    _token_at_stake: str | None = None
    _cancelled: str | None = None
    """The run that on_kill has cancelled."""

    def _request(self, task_try: TaskTry, deadline: datetime, tries: Tries, mode: str) -> dict[str, Any]:
        """Return the body of `POST /runs`. What changes nothing is not sent: an older bridge refuses it."""
        body: dict[str, Any] = {"factory": self._factory(), "pipeline": self.pipeline_name}
        if self.recovery.is_recovery:
            body["recover_from"] = self.recovery.as_request(self.reference_pipeline_run_id)
        elif self.parameters is not None:
            body["parameters"] = _plain(self.parameters)
        if self.wrapped != "auto":
            body["wrapped"] = self.wrapped
        if self.wait_for_termination:
            keep = self._may_be_taken_over(tries)
            body["wait"] = as_wait(task_try, deadline, mode=mode, on_abandon=self.on_abandon, keep_for_next_try=keep)
            policy = self.on_clear if tries.after == "clear" else self.on_retry
            if tries.after is not None and policy != "rerun":
                body["previous"] = {"do": policy, "after": tries.after, "since_try": tries.first}
        return body

    def _may_be_taken_over(self, tries: Tries) -> bool:
        """Whether a next try may go on with this try's run."""
        return self.on_clear != "rerun" or (self.on_retry != "rerun" and tries.another_may_follow)

    def _is_cancelled_with(self, tries: Tries) -> bool:
        """Whether nobody waits for the run when this try is ended before it has parked, and it is to be cancelled."""
        return self.wait_for_termination and self.on_abandon == "cancel" and not self._may_be_taken_over(tries)

    def _is_cancelled_with_the_task(self) -> bool:
        """A task that a person marked has no next try; one that was cleared has, and that may go on with the run."""
        return self.on_abandon == "cancel" and self.on_clear == "rerun"

    def _tell(self, answer: Mapping[str, Any], wait: Mapping[str, Any], *, asked: object) -> None:
        """Log how this try came by its run. An older bridge does not say."""
        start = answer.get("start") or {}
        how, why = start.get("how") or "started", start.get("why")
        anew = asked is not None and how == "started"
        self.log.log(
            logging.WARNING if anew and why else logging.INFO,
            "%s %s of pipeline %s: %s%s",
            _HOW.get(how, "Run"),
            wait["run_id"],
            self.pipeline_name,
            wait["monitor_url"],
            f" ({why})" if why else "",
        )

    def _parked(self, ti: Any, wait: Mapping[str, Any]) -> BaseException:  # noqa: ANN401
        """Leave the run to the wait; or fail: lest on_cancelled skips a task whose run on_kill has cancelled."""
        parked = super()._parked(ti, wait)
        if self._cancelled:
            return AdfBridgeRunCancelled(f"The task was told to end, and its run {self._cancelled} was cancelled.")
        self._at_stake = False
        return parked


_HOW: Mapping[str, str] = {
    "started": "Started run",
    "adopted": "Found the run that had been started for this try: run",
    "reattached": "Going on with run",
    "recovered": "Running an earlier run again, as run",
}


def _plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters as JSON would carry them. Raises AdfBridgeConfigurationError when it cannot."""
    try:
        plain = json.loads(json.dumps(dict(parameters), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise AdfBridgeConfigurationError(f"parameters must be plain JSON: {error}. No run was started.") from None
    return dict(plain)
