"""Azure Data Factory through azure-mgmt-datafactory. Each call is sent once: the bridge's policy decides on retries.

The SDK would send createRun again after 500, 503 and 504, and so start a second run; `retry_total=0` forbids it.
https://learn.microsoft.com/rest/api/datafactory/
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
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

from bridge import masking, policy
from bridge.adapters import adf_causes
from bridge.adapters.connecting import was_never_sent
from bridge.adapters.credentials import FixedToken, azure_credential
from bridge.config import Secret
from bridge.model import (
    FactoryId,
    FailedActivity,
    JsonObject,
    Match,
    Recovery,
    RecoveryMode,
    RunKey,
    RunReading,
    RunStatus,
    is_run_id,
)
from bridge.ports import Accepted, FoundRun, NotRunning, PipelineDeclaration, Refusal, RefusalKind, RunsPage, Started

T = TypeVar("T")

if TYPE_CHECKING:
    from azure.mgmt.datafactory import DataFactoryManagementClient
    from azure.mgmt.datafactory.models import ActivityRun, PipelineRun, PipelineRunInvokedBy, PipelineRunsQueryResponse

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
_YEARS: Final = range(1900, 9999)
_DETAIL_CHARS: Final = 500
_PAGES_SEARCHED: Final = 20
_DECLARED_SECONDS: Final = 300.0
_NOT_RUNNING: Final = "PipelineRunNotRunning"
# ADF's words when 100 runs of a pipeline wait already for those that go on; their status and code are not documented.
# https://github.com/MicrosoftDocs/azure-docs/issues/85538. Another refusal of createRun begins with `ErrorCode=…`.
_QUEUE_FULL: Final = re.compile(r"(ErrorCode=\w+, ?ErrorMessage=)?Pipeline execution throttled\b", re.IGNORECASE)
_GOING_ON: Final = ["Queued", "InProgress", "Canceling"]
_MANUAL: Final = "manual"


class DataFactory:
    """The port `Adf`, over ARM."""

    def __init__(self, *, endpoint: str, token: Secret) -> None:
        self._endpoint = endpoint
        self._token = token
        self._clients: dict[str, DataFactoryManagementClient] = {}
        self._lock = threading.Lock()
        self._pipelines: dict[tuple[str, str], _Known] = {}

    def create_run(
        self, factory: FactoryId, pipeline: str, parameters: JsonObject, recovery: Recovery | None = None
    ) -> Started | Refusal:
        """Send createRun, once. A refusal of kind `unavailable` means that a run may have been started.

        https://learn.microsoft.com/rest/api/datafactory/pipelines/create-run: with a recovery the parameters would not
        be used.
        """

        def ask() -> Started:
            answer = self._client(factory).pipelines.create_run(
                resource_group_name=factory.resource_group,
                factory_name=factory.name,
                pipeline_name=pipeline,
                **({"parameters": dict(parameters)} if recovery is None else _again(recovery)),
                **_START_ONCE,
            )
            if not is_run_id(answer.run_id):
                raise ValueError(answer.run_id)
            return Started(answer.run_id)

        answer = _asked(ask, secrets=tuple(masking.texts_in(parameters)))
        if isinstance(answer, Refusal) and answer.kind is RefusalKind.NOT_FOUND:
            self._pipelines.clear()  # one that was known may be gone
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
        self, factory: FactoryId, *, since: datetime, until: datetime, continuation: str | None, ended: bool = False
    ) -> RunsPage | Refusal:
        """Query a page of the runs that changed in a window. ADF's answer tells its own time in the header Date.

        https://learn.microsoft.com/rest/api/datafactory/pipeline-runs/query-by-factory
        """
        # What is in none of these has ended, or is in a status that nobody here knows.
        only = {"operand": "Status", "operator": "NotIn", "values": _GOING_ON}
        return self._runs(factory, since, until, continuation, only if ended else None)

    def search_runs(
        self, factory: FactoryId, pipeline: str, *, since: datetime, until: datetime, continuation: str | None
    ) -> RunsPage | Refusal:
        """Query a page of one pipeline's runs that changed in a window, in the order in which they began."""
        only = {"operand": "PipelineName", "operator": "Equals", "values": [pipeline]}
        return self._runs(factory, since, until, continuation, only, by_start=True)

    def _runs(
        self,
        factory: FactoryId,
        since: datetime,
        until: datetime,
        continuation: str | None,
        only: Mapping[str, Any] | None,
        *,
        by_start: bool = False,
    ) -> RunsPage | Refusal:
        """Query a page of runs, of all or of those that a filter admits."""
        dates: list[str | None] = []

        def keep_date(response: Any, page: PipelineRunsQueryResponse, _: object) -> PipelineRunsQueryResponse:  # noqa: ANN401
            dates.append(response.http_response.headers.get("Date"))
            return page

        def ask() -> RunsPage:
            from azure.mgmt.datafactory.models import RunFilterParameters, RunQueryFilter, RunQueryOrderBy

            window = RunFilterParameters(last_updated_after=since, last_updated_before=until)
            if only is not None:
                window.filters = [RunQueryFilter(only)]
            if by_start:
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

    def pipeline(self, factory: FactoryId, name: str, *, fresh: bool) -> PipelineDeclaration | Refusal | None:
        """GET a pipeline's definition; what was answered stands for some minutes, unless it is to be `fresh`."""
        known = None if fresh else self._pipelines.get((factory.key, name))
        if known is not None and known.until > time.monotonic():
            return known.declaration

        def ask() -> PipelineDeclaration:
            found = self._client(factory).pipelines.get(
                resource_group_name=factory.resource_group, factory_name=factory.name, pipeline_name=name, **_ONCE
            )
            properties = found.properties if found is not None else None
            parameters = (properties.parameters if properties else None) or {}
            declared = frozenset(parameters)
            defaults = {name: one.default_value for name, one in parameters.items() if one.default_value is not None}
            labels = (properties.annotations if properties else None) or ()
            ours = policy.WRAPPER_LABEL in labels and policy.CORRELATION in declared
            return PipelineDeclaration(name, declared, policy.is_wrapper(name) and ours, defaults)

        answer = _asked(ask)
        if isinstance(answer, Refusal) and answer.kind is not RefusalKind.NOT_FOUND:
            return answer
        declaration = None if isinstance(answer, Refusal) else answer
        if declaration is None and not policy.is_wrapper(name):
            # Somebody will deploy it and start it again at once; that there is no wrapper is asked for every run.
            self._pipelines.pop((factory.key, name), None)
        else:
            self._pipelines[(factory.key, name)] = _Known(declaration, time.monotonic() + _DECLARED_SECONDS)
        return declaration

    def child(self, key: RunKey, run: RunReading) -> str | Refusal | None:
        """Query the run's activities for the pipeline that it executed; the last one, should it have been retried."""

        def ask() -> str | None:
            found = self._activities(key, run, [("ActivityType", "ExecutePipeline")])
            found.sort(key=lambda activity: activity.activity_run_start or datetime.max.replace(tzinfo=UTC))
            ids = [adf_causes.child_run_id(activity) for activity in found]
            return next((one for one in reversed(ids) if one is not None), None)

        return _asked(ask)

    def _activities(self, key: RunKey, run: RunReading, filters: Sequence[tuple[str, str]]) -> list[ActivityRun]:
        """Query a run's activity runs, those where each operand has that value."""
        from azure.mgmt.datafactory.models import RunFilterParameters, RunQueryFilter, RunQueryOrderBy

        now = datetime.now(UTC)
        which = RunFilterParameters(
            last_updated_after=(run.run_start or now - _HISTORY) - timedelta(days=1),
            last_updated_before=now + timedelta(days=1),
            filters=[
                RunQueryFilter({"operand": operand, "operator": "Equals", "values": [value]})
                for operand, value in filters
            ],
            order_by=[RunQueryOrderBy(order_by="ActivityRunEnd", order="ASC")],  # one page is read: the earliest
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
        if match.since >= until:
            return None  # nothing has begun that late; the window would end before it begins
        for _ in range(_PAGES_SEARCHED):
            page = self.search_runs(factory, match.pipeline, since=match.since, until=until, continuation=continuation)
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
        """Query the run's failed activities, and those of the runs that it executed, down to the innermost one."""

        def failures(run_id: str) -> list[adf_causes.Failure]:
            found = self._activities(RunKey(key.factory, run_id), run, [("Status", "Failed")])
            return [adf_causes.failure(activity) for activity in found if activity.status == "Failed"]

        return adf_causes.find_cause(key.run_id, run.message, lambda run_id: _asked(lambda: failures(run_id)))

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
    """What ADF said of a pipeline, and until when that is believed (monotonic seconds)."""

    declaration: PipelineDeclaration | None
    until: float


class _NoCredential:
    """Stands where the SDK wants a credential although another policy signs the requests."""

    def get_token(self, *scopes: str, **_: object) -> Any:  # noqa: ANN401 - never called
        raise NotImplementedError(scopes)


def _again(recovery: Recovery) -> dict[str, Any]:
    """Return the options of a createRun that runs an earlier run again, in its group."""
    options: dict[str, Any] = {"reference_pipeline_run_id": recovery.run_id, "is_recovery": True}
    match recovery.mode:
        case RecoveryMode.FROM_FAILURE:
            options["start_from_failure"] = True
        case RecoveryMode.FROM_ACTIVITY:
            options["start_activity_name"] = recovery.activity
        case RecoveryMode.ALL:
            pass
    return options


def _asked(ask: Callable[[], T], *, secrets: Sequence[str] = ()) -> T | Refusal:
    """Return what ADF answered, or why there is no answer that can be used; that tells none of the secrets."""
    try:
        return ask()
    except AzureError as error:
        return _refusal(error, secrets)
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        # A proxy's page, or JSON of another shape: the call may have been carried out all the same.
        return Refusal(RefusalKind.UNAVAILABLE, "ADF's answer could not be read")


def _refusal(error: AzureError, secrets: Sequence[str]) -> Refusal:
    if isinstance(error, HttpResponseError) and error.status_code is not None:
        status = error.status_code
        # Only a 4xx says for sure that nothing was done: a 2xx that cannot be read comes here, too.
        surely_not_done = status in _CLIENT_ERRORS
        kind = _KINDS.get(status, RefusalKind.INVALID if surely_not_done else RefusalKind.UNAVAILABLE)
        if surely_not_done and _says_queue_is_full(error):
            kind = RefusalKind.THROTTLED
        headers = getattr(error.response, "headers", {})
        asked = policy.retry_after(headers.get("Retry-After"), datetime.now(UTC))
        return Refusal(kind, f"ADF answered {status}{_reason(error, secrets)}", asked)
    if isinstance(error, ClientAuthenticationError):
        return Refusal(RefusalKind.UNAUTHENTICATED, "no token could be had for the bridge's identity")
    if isinstance(error, ServiceRequestError) and was_never_sent(error.inner_exception):
        return Refusal(RefusalKind.UNREACHABLE, "ADF could not be reached")
    if isinstance(error, ServiceRequestError | ServiceResponseError):
        return Refusal(RefusalKind.UNAVAILABLE, "ADF did not answer, or not in time")
    return Refusal(RefusalKind.UNAVAILABLE, f"the call to ADF failed ({type(error).__name__})")


def _says_queue_is_full(error: HttpResponseError) -> bool:
    """Whether as many runs of the pipeline wait already as may: the same request will do later."""
    return error.error is not None and _QUEUE_FULL.match(_text(error.error.message) or "") is not None


def _reason(error: HttpResponseError, secrets: Sequence[str]) -> str:
    """Return ADF's own words, cut; `{"error": {"code", "message"}}` is ARM's error shape.

    Of a secret that stands where they are cut, the beginning would be left: so secrets are masked first.
    """
    if error.error is None:
        return ""
    words = f" {error.error.code}: {error.error.message}"
    return policy.cut(masking.masked(words, secrets), _DETAIL_CHARS) or ""


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
        group=_text(run.run_group_id),
        by_hand=_is_by_hand(run.invoked_by),
        parameters=_shown(run.get("parameters")),  # the attribute would be Python's text of what is none
    )


def _is_by_hand(invoker: PipelineRunInvokedBy | None) -> bool:
    """Whether createRun started a run, or nothing says that something else did."""
    if invoker is None:
        return True
    return (_text(invoker.invoked_by_type) or _text(invoker.name) or _MANUAL).lower() == _MANUAL


def _shown(parameters: object) -> Mapping[str, str]:
    """Return a run's parameters. ADF shows every value as text; should one be something else, it is its JSON."""
    if not isinstance(parameters, Mapping):
        return {}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in parameters.items()}


def _date(header: str | None) -> datetime | None:
    """Read the header Date (RFC 9110 §6.6.1), None when it is missing or unreadable."""
    try:
        return _utc(parsedate_to_datetime(header)) if header else None
    except ValueError:
        return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _utc(value: datetime | None) -> datetime | None:
    """Return a time; None for those that stand for no time: the first one and the last one of .NET, and of Windows."""
    if value is None or value.year not in _YEARS:
        return None
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
