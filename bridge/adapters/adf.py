"""Azure Data Factory through azure-mgmt-datafactory. Each call is sent once: the bridge's policy decides on retries.

The SDK would send createRun again after 500, 503 and 504, and so start a second run; `retry_total=0` forbids it.
https://learn.microsoft.com/rest/api/datafactory/
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseError,
)

from bridge import policy
from bridge.adapters.connecting import was_never_sent
from bridge.adapters.credentials import FixedToken, azure_credential
from bridge.config import Secret
from bridge.model import FactoryId, FailedActivity, JsonObject, Match, RunKey, RunReading, RunStatus, is_run_id
from bridge.ports import Accepted, FoundRun, NotRunning, Refusal, RefusalKind, RunsPage, Started, WrapperPipeline

T = TypeVar("T")

if TYPE_CHECKING:
    from azure.mgmt.datafactory import DataFactoryManagementClient
    from azure.mgmt.datafactory.models import ActivityRun, PipelineRun, PipelineRunsQueryResponse

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
_CLIENT_ERRORS: Final = range(400, 500)
_HISTORY: Final = timedelta(days=45)
_DETAIL_CHARS: Final = 500
_PAGES_SEARCHED: Final = 20
_WRAPPER_SECONDS: Final = 300.0
_NOT_RUNNING: Final = "PipelineRunNotRunning"


class DataFactory:
    """The port `Adf`, over ARM."""

    def __init__(self, *, endpoint: str, token: Secret) -> None:
        self._endpoint = endpoint
        self._token = token
        self._clients: dict[str, DataFactoryManagementClient] = {}
        self._lock = threading.Lock()
        self._wrappers: dict[tuple[str, str], _Known] = {}

    def create_run(self, factory: FactoryId, pipeline: str, parameters: JsonObject) -> Started | Refusal:
        """Send createRun, once. A refusal of kind `unavailable` means that a run may have been started."""

        def ask() -> Started:
            answer = self._client(factory).pipelines.create_run(
                resource_group_name=factory.resource_group,
                factory_name=factory.name,
                pipeline_name=pipeline,
                parameters=dict(parameters),
                **_START_ONCE,
            )
            if not is_run_id(answer.run_id):
                raise ValueError(answer.run_id)
            return Started(answer.run_id)

        answer = _asked(ask)
        if isinstance(answer, Refusal) and answer.kind is RefusalKind.NOT_FOUND:
            self._wrappers.clear()  # one that was known may be gone
        return answer

    def cancel_run(self, key: RunKey, *, recursive: bool) -> Accepted | NotRunning | Refusal:
        """Cancel the run. That it does not run is ADF's answer, not an error.

        https://learn.microsoft.com/rest/api/datafactory/pipeline-runs/cancel
        """

        def ask() -> Accepted | NotRunning:
            try:
                self._client(key.factory).pipeline_runs.cancel(
                    resource_group_name=key.factory.resource_group,
                    factory_name=key.factory.name,
                    run_id=key.run_id,
                    is_recursive=recursive,
                    **_ONCE,
                )
            except HttpResponseError as error:
                if error.error is not None and error.error.code == _NOT_RUNNING:
                    return NotRunning()
                raise
            return Accepted()

        return _asked(ask)

    def read_run(self, key: RunKey) -> RunReading | Refusal:
        """GET the run."""

        def ask() -> RunReading:
            run = self._client(key.factory).pipeline_runs.get(
                resource_group_name=key.factory.resource_group,
                factory_name=key.factory.name,
                run_id=key.run_id,
                **_ONCE,
            )
            return _reading(run)

        return _asked(ask)

    def query_runs(
        self, factory: FactoryId, *, since: datetime, until: datetime, continuation: str | None
    ) -> RunsPage | Refusal:
        """Query a page of the runs that changed in a window. ADF's answer tells its own time in the header Date.

        https://learn.microsoft.com/rest/api/datafactory/pipeline-runs/query-by-factory
        """
        return self._runs(factory, since, until, continuation)

    def _runs(
        self,
        factory: FactoryId,
        since: datetime,
        until: datetime,
        continuation: str | None,
        *,
        pipeline: str | None = None,
    ) -> RunsPage | Refusal:
        """Query a page of runs, of all pipelines or of one."""
        dates: list[str | None] = []

        def keep_date(response: Any, page: PipelineRunsQueryResponse, _: object) -> PipelineRunsQueryResponse:  # noqa: ANN401
            dates.append(response.http_response.headers.get("Date"))
            return page

        def ask() -> RunsPage:
            from azure.mgmt.datafactory.models import RunFilterParameters, RunQueryFilter, RunQueryOrderBy

            window = RunFilterParameters(last_updated_after=since, last_updated_before=until)
            if pipeline is not None:
                only = {"operand": "PipelineName", "operator": "Equals", "values": [pipeline]}
                window.filters = [RunQueryFilter(only)]
                window.order_by = [RunQueryOrderBy(order_by="RunStart", order="ASC")]
            window.continuation_token = continuation
            page = self._client(factory).pipeline_runs.query_by_factory(
                resource_group_name=factory.resource_group,
                factory_name=factory.name,
                filter_parameters=window,
                cls=keep_date,
                **_ONCE,
            )
            readings = {run.run_id: _reading(run) for run in page.value if run.run_id}
            return RunsPage(readings, page.continuation_token or None, _date(dates[0]))

        return _asked(ask)

    def wrapper(self, factory: FactoryId, pipeline: str) -> WrapperPipeline | Refusal | None:
        """GET the wrapper's definition; what was answered stands for some minutes."""
        name = policy.wrapper_of(pipeline)
        known = self._wrappers.get((factory.key, name))
        if known is not None and known.until > time.monotonic():
            return known.wrapper

        def ask() -> WrapperPipeline | None:
            found = self._client(factory).pipelines.get(
                resource_group_name=factory.resource_group, factory_name=factory.name, pipeline_name=name, **_ONCE
            )
            properties = found.properties if found is not None else None
            declared = frozenset((properties.parameters if properties else None) or ())
            labels = (properties.annotations if properties else None) or ()
            ours = policy.WRAPPER_LABEL in labels and policy.CORRELATION in declared
            return WrapperPipeline(name, declared) if ours else None

        answer = _asked(ask)
        if isinstance(answer, Refusal) and answer.kind is not RefusalKind.NOT_FOUND:
            return answer
        wrapper = None if isinstance(answer, Refusal) else answer
        self._wrappers[(factory.key, name)] = _Known(wrapper, time.monotonic() + _WRAPPER_SECONDS)
        return wrapper

    def child(self, key: RunKey, run: RunReading) -> str | Refusal | None:
        """Query the run's activities for the pipeline that it executed; the last one, should it have been retried."""

        def ask() -> str | None:
            found = self._activities(key, run, [("ActivityType", "ExecutePipeline")])
            found.sort(key=lambda activity: activity.activity_run_start or datetime.max.replace(tzinfo=UTC))
            ids = [_child_run_id(activity) for activity in found]
            return next((one for one in reversed(ids) if one is not None), None)

        return _asked(ask)

    def _activities(self, key: RunKey, run: RunReading, filters: Sequence[tuple[str, str]]) -> list[ActivityRun]:
        """Query a run's activity runs, those where each operand has that value."""
        from azure.mgmt.datafactory.models import RunFilterParameters, RunQueryFilter

        now = datetime.now(UTC)
        which = RunFilterParameters(
            last_updated_after=(run.run_start or now - _HISTORY) - timedelta(days=1),
            last_updated_before=now + timedelta(days=1),
            filters=[
                RunQueryFilter({"operand": operand, "operator": "Equals", "values": [value]})
                for operand, value in filters
            ],
        )
        found = self._client(key.factory).activity_runs.query_by_pipeline_run(
            resource_group_name=key.factory.resource_group,
            factory_name=key.factory.name,
            run_id=key.run_id,
            filter_parameters=which,
            **_ONCE,
        )
        return list(found.value)

    def find_run(self, factory: FactoryId, match: Match) -> FoundRun | Refusal | None:
        """Query the pipeline's runs that changed since then, in the order in which they began."""
        continuation: str | None = None
        until = datetime.now(UTC) + timedelta(days=1)
        for _ in range(_PAGES_SEARCHED):
            page = self._runs(factory, match.since, until, continuation, pipeline=match.pipeline)
            if isinstance(page, Refusal):
                return page
            found = [FoundRun(run_id, one) for run_id, one in page.readings.items() if match.takes(one)]
            if found:
                return min(found, key=lambda one: one.reading.run_start or until)
            continuation = page.continuation
            if continuation is None:
                return None
        return Refusal(RefusalKind.INVALID, f"{match.pipeline!r} has had too many runs since then to look through")

    def failed_activity(self, key: RunKey, run: RunReading) -> FailedActivity | None:
        """Query the run's failed activities; the one that failed first with an error is the cause."""

        def ask() -> FailedActivity | None:
            now = datetime.now(UTC)
            found = self._activities(key, run, [("Status", "Failed")])
            failed = [activity for activity in found if activity.status == "Failed"]
            failed.sort(key=lambda activity: activity.activity_run_end or now)
            return _cause(failed[0]) if failed else None

        cause = _asked(ask)
        return None if isinstance(cause, Refusal) else cause

    def check(self, factory: FactoryId) -> Refusal | None:
        """Query the runs of the last minute: it needs the permission to read runs, and costs one call."""
        now = datetime.now(UTC)
        page = self.query_runs(factory, since=now - timedelta(minutes=1), until=now, continuation=None)
        return page if isinstance(page, Refusal) else None

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


@dataclass(frozen=True, slots=True)
class _Known:
    """What ADF said of a wrapper, and until when that is believed (monotonic seconds)."""

    wrapper: WrapperPipeline | None
    until: float


class _NoCredential:
    """Stands where the SDK wants a credential although another policy signs the requests."""

    def get_token(self, *scopes: str, **_: object) -> Any:  # noqa: ANN401 - never called
        raise NotImplementedError(scopes)


def _asked(ask: Callable[[], T]) -> T | Refusal:
    """Return what ADF answered, or why there is no answer that can be used."""
    try:
        return ask()
    except AzureError as error:
        return _refusal(error)
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        # A proxy's page, or JSON of another shape: the call may have been carried out all the same.
        return Refusal(RefusalKind.UNAVAILABLE, "ADF's answer could not be read")


def _refusal(error: AzureError) -> Refusal:
    if isinstance(error, HttpResponseError) and error.status_code is not None:
        status = error.status_code
        # Only a 4xx says for sure that nothing was done: a 2xx that cannot be read comes here, too.
        surely_not_done = status in _CLIENT_ERRORS
        kind = _KINDS.get(status, RefusalKind.INVALID if surely_not_done else RefusalKind.UNAVAILABLE)
        headers = getattr(error.response, "headers", {})
        asked = policy.retry_after(headers.get("Retry-After"), datetime.now(UTC))
        return Refusal(kind, f"ADF answered {status}{_reason(error)}", asked)
    if isinstance(error, ClientAuthenticationError):
        return Refusal(RefusalKind.UNAUTHENTICATED, "no token could be had for the bridge's identity")
    if isinstance(error, ServiceRequestError) and was_never_sent(error.inner_exception):
        return Refusal(RefusalKind.UNREACHABLE, "ADF could not be reached")
    if isinstance(error, ServiceRequestError | ServiceResponseError):
        return Refusal(RefusalKind.UNAVAILABLE, "ADF did not answer, or not in time")
    return Refusal(RefusalKind.UNAVAILABLE, f"the call to ADF failed ({type(error).__name__})")


def _reason(error: HttpResponseError) -> str:
    """Return ADF's own words, cut; `{"error": {"code", "message"}}` is ARM's error shape."""
    if error.error is None:
        return ""
    words = f" {error.error.code}: {error.error.message}"
    return policy.cut(words, _DETAIL_CHARS) or ""


def _child_run_id(activity: ActivityRun) -> str | None:
    """Return the run that an ExecutePipeline activity started, if it got that far."""
    output = activity.output if isinstance(activity.output, dict) else {}
    child = output.get("pipelineRunId")
    return child if isinstance(child, str) and is_run_id(child) else None


def _cause(activity: ActivityRun) -> FailedActivity:
    error = activity.error if isinstance(activity.error, dict) else {}
    return FailedActivity(
        name=activity.activity_name or "",
        type=activity.activity_type or "",
        error_code=_text(error.get("errorCode")),
        message=policy.cut(_text(error.get("message"))),
    )


def _reading(run: PipelineRun) -> RunReading:
    text = run.status or ""
    return RunReading(
        status=RunStatus.spelled(text),
        status_text=text,
        pipeline=run.pipeline_name,
        run_start=_utc(run.run_start),
        run_end=_utc(run.run_end),
        message=run.message or None,
        parent_run_id=_text(run.invoked_by.pipeline_run_id) if run.invoked_by else None,
        parent_pipeline=_text(run.invoked_by.pipeline_name) if run.invoked_by else None,
    )


def _date(header: str | None) -> datetime | None:
    """Read the header Date (RFC 9110 §6.6.1), None when it is missing or unreadable."""
    try:
        return _utc(parsedate_to_datetime(header)) if header else None
    except ValueError:
        return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _utc(value: datetime | None) -> datetime | None:
    if value is None:
        return None
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
