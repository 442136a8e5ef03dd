"""Azure Data Factory through azure-mgmt-datafactory. Each call is sent once: the bridge's policy decides on retries.

The SDK would send createRun again after 500, 503 and 504, and so start a second run; `retry_total=0` forbids it.
https://learn.microsoft.com/rest/api/datafactory/
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseError,
)

from bridge import policy
from bridge.adapters.credentials import FixedToken, azure_credential
from bridge.config import Secret
from bridge.model import FactoryId, FailedActivity, JsonObject, RunKey, RunReading, RunStatus
from bridge.ports import Refusal, RefusalKind, Started

if TYPE_CHECKING:
    from azure.mgmt.datafactory import DataFactoryManagementClient

_ONCE: Final[dict[str, Any]] = {
    "retry_total": 0,
    "permit_redirects": False,
    "connection_timeout": 3,
    "read_timeout": 5,
}
_START_ONCE: Final[dict[str, Any]] = {**_ONCE, "read_timeout": 25}
_KINDS: Final = {
    401: RefusalKind.UNAUTHENTICATED,
    403: RefusalKind.FORBIDDEN,
    404: RefusalKind.NOT_FOUND,
    408: RefusalKind.UNAVAILABLE,
    409: RefusalKind.CONFLICT,
    429: RefusalKind.THROTTLED,
}
_SERVER_ERROR: Final = 500
_HISTORY: Final = timedelta(days=45)
_DETAIL_CHARS: Final = 500


class DataFactory:
    """The port `Adf`, over ARM."""

    def __init__(self, *, endpoint: str, token: Secret) -> None:
        self._endpoint = endpoint
        self._token = token
        self._clients: dict[str, DataFactoryManagementClient] = {}
        self._lock = threading.Lock()

    def create_run(self, factory: FactoryId, pipeline: str, parameters: JsonObject) -> Started | Refusal:
        """Send createRun, once. A refusal of kind `unavailable` means that a run may have been started."""
        try:
            answer = self._client(factory).pipelines.create_run(
                resource_group_name=factory.resource_group,
                factory_name=factory.name,
                pipeline_name=pipeline,
                parameters=dict(parameters),
                **_START_ONCE,
            )
        except AzureError as error:
            return _refusal(error)
        return Started(answer.run_id)

    def read_run(self, key: RunKey) -> RunReading | Refusal:
        """GET the run."""
        try:
            run = self._client(key.factory).pipeline_runs.get(
                resource_group_name=key.factory.resource_group,
                factory_name=key.factory.name,
                run_id=key.run_id,
                **_ONCE,
            )
        except AzureError as error:
            return _refusal(error)
        text = run.status or ""
        return RunReading(
            status=RunStatus.spelled(text),
            status_text=text,
            pipeline=run.pipeline_name,
            run_start=_utc(run.run_start),
            run_end=_utc(run.run_end),
            message=run.message or None,
        )

    def failed_activity(self, key: RunKey, run: RunReading) -> FailedActivity | None:
        """Query the run's failed activities; the one that failed first with an error is the cause."""
        from azure.mgmt.datafactory.models import RunFilterParameters, RunQueryFilter

        now = datetime.now(UTC)
        which = RunFilterParameters(
            last_updated_after=(run.run_start or now - _HISTORY) - timedelta(days=1),
            last_updated_before=now + timedelta(days=1),
            filters=[RunQueryFilter({"operand": "Status", "operator": "Equals", "values": ["Failed"]})],
        )
        try:
            found = self._client(key.factory).activity_runs.query_by_pipeline_run(
                resource_group_name=key.factory.resource_group,
                factory_name=key.factory.name,
                run_id=key.run_id,
                filter_parameters=which,
                **_ONCE,
            )
        except AzureError:
            return None
        failed = [activity for activity in found.value if activity.status == "Failed"]
        failed.sort(key=lambda activity: activity.activity_run_end or now)
        for activity in failed:
            error = activity.error if isinstance(activity.error, dict) else {}
            return FailedActivity(
                name=activity.activity_name or "",
                type=activity.activity_type or "",
                error_code=_text(error.get("errorCode")),
                message=policy.cut(_text(error.get("message"))),
            )
        return None

    def check(self, factory: FactoryId) -> Refusal | None:
        """Query the runs of the last minute: it needs the permission to read runs, and costs one call."""
        from azure.mgmt.datafactory.models import RunFilterParameters

        now = datetime.now(UTC)
        which = RunFilterParameters(last_updated_after=now - timedelta(minutes=1), last_updated_before=now)
        try:
            self._client(factory).pipeline_runs.query_by_factory(
                resource_group_name=factory.resource_group,
                factory_name=factory.name,
                filter_parameters=which,
                **_ONCE,
            )
        except AzureError as error:
            return _refusal(error)
        return None

    def _client(self, factory: FactoryId) -> DataFactoryManagementClient:
        with self._lock:
            client = self._clients.get(factory.subscription_id)
            if client is None:
                client = self._clients[factory.subscription_id] = self._new_client(factory.subscription_id)
            return client

    def _new_client(self, subscription_id: str) -> DataFactoryManagementClient:
        from azure.mgmt.datafactory import DataFactoryManagementClient

        if self._token:
            return DataFactoryManagementClient(
                _NoCredential(),
                subscription_id,
                base_url=self._endpoint,
                authentication_policy=FixedToken(self._token),
            )
        return DataFactoryManagementClient(
            azure_credential(),
            subscription_id,
            base_url=self._endpoint,
            credential_scopes=[f"{self._endpoint}/.default"],
        )


class _NoCredential:
    """Stands where the SDK wants a credential although another policy signs the requests."""

    def get_token(self, *scopes: str, **_: object) -> Any:  # noqa: ANN401 - never called
        raise NotImplementedError(scopes)


def _refusal(error: AzureError) -> Refusal:
    if isinstance(error, HttpResponseError) and error.status_code is not None:
        status = error.status_code
        kind = _KINDS.get(status, RefusalKind.UNAVAILABLE if status >= _SERVER_ERROR else RefusalKind.INVALID)
        headers = getattr(error.response, "headers", {})
        asked = policy.retry_after(headers.get("Retry-After"), datetime.now(UTC))
        return Refusal(kind, f"ADF answered {status}{_reason(error)}", asked)
    if isinstance(error, ClientAuthenticationError):
        return Refusal(RefusalKind.UNAUTHENTICATED, "no token could be had for the bridge's identity")
    if isinstance(error, ServiceRequestError):
        return Refusal(RefusalKind.UNREACHABLE, "ADF could not be reached")
    if isinstance(error, ServiceResponseError):
        return Refusal(RefusalKind.UNAVAILABLE, "ADF did not answer in time")
    return Refusal(RefusalKind.UNAVAILABLE, f"the call to ADF failed ({type(error).__name__})")


def _reason(error: HttpResponseError) -> str:
    """Return ADF's own words, cut; `{"error": {"code", "message"}}` is ARM's error shape."""
    if error.error is None:
        return ""
    words = f" {error.error.code}: {error.error.message}"
    return policy.cut(words, _DETAIL_CHARS) or ""


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _utc(value: datetime | None) -> datetime | None:
    if value is None:
        return None
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
