"""Running an earlier run again, said with the arguments of Airflow's own operator.

https://learn.microsoft.com/rest/api/datafactory/pipelines/create-run (referencePipelineRunId, isRecovery,
startActivityName, startFromFailure)
"""

from __future__ import annotations

from dataclasses import dataclass

from airflow_adf_bridge.errors import AdfBridgeConfigurationError


@dataclass(frozen=True)
class RecoveryArguments:
    """Those arguments, consistent among themselves; the run's id may still be a template."""

    is_recovery: bool
    start_activity_name: str | None
    start_from_failure: bool

    @classmethod
    def check(
        cls,
        *,
        reference_pipeline_run_id: object | None,
        is_recovery: bool | None,
        start_activity_name: str | None,
        start_from_failure: bool | None,
        parameters: object | None,
    ) -> RecoveryArguments:
        """Return them. Raises AdfBridgeConfigurationError where they contradict each other."""
        if reference_pipeline_run_id is None:
            if is_recovery or start_activity_name or start_from_failure:
                raise AdfBridgeConfigurationError(
                    "is_recovery, start_activity_name and start_from_failure say how an earlier run is run again: "
                    "name that run in reference_pipeline_run_id."
                )
        elif not is_recovery:
            raise AdfBridgeConfigurationError(
                "reference_pipeline_run_id needs is_recovery=True: the bridge runs an earlier run again in its own run "
                "group. To start another run with the same parameters, give it those parameters."
            )
        elif parameters:
            raise AdfBridgeConfigurationError(
                "parameters have no use with reference_pipeline_run_id: Data Factory takes those of that run. Remove "
                "one of the two."
            )
        if start_activity_name and start_from_failure:
            raise AdfBridgeConfigurationError(
                "start_activity_name and start_from_failure exclude each other: Data Factory would ignore the latter."
            )
        return cls(bool(is_recovery), start_activity_name or None, bool(start_from_failure))

    def as_request(self, run_id: object) -> dict[str, str]:
        """Return `recover_from` as the bridge's API takes it, with the run's id as it was rendered.

        Raises AdfBridgeConfigurationError when nothing was rendered: a run from the start is not what was asked for.
        """
        if not isinstance(run_id, str) or not run_id.strip():
            raise AdfBridgeConfigurationError(
                f"reference_pipeline_run_id is {run_id!r} now that its template is rendered. No run was started."
            )
        asked = {"run_id": run_id.strip()}
        if self.start_activity_name:
            return {**asked, "mode": "from_activity", "activity": self.start_activity_name}
        return {**asked, "mode": "from_failure" if self.start_from_failure else "all"}
