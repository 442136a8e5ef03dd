"""Which operation a request asks for. ARM's paths are the same in any case; names are percent-encoded.

See https://learn.microsoft.com/rest/api/datafactory/operation-groups
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import unquote

from local.adf.factory import Factory


class Operation(StrEnum):
    """What a caller can ask for, in the words of the call log."""

    GET_FACTORY = "getFactory"
    LIST_PIPELINES = "listPipelines"
    GET_PIPELINE = "getPipeline"
    PUT_PIPELINE = "putPipeline"
    DELETE_PIPELINE = "deletePipeline"
    CREATE_RUN = "createRun"
    QUERY_RUNS = "queryPipelineRuns"
    GET_RUN = "getRun"
    CANCEL_RUN = "cancelRun"
    QUERY_ACTIVITY_RUNS = "queryActivityRuns"


@dataclass(frozen=True, slots=True)
class Route:
    """An operation on a factory, and the pipeline or the run that the path names."""

    operation: Operation
    factory: Factory
    pipeline: str | None
    run_id: str | None


_FACTORY = (
    r"/subscriptions/(?P<subscription>[^/]+)/resourceGroups/(?P<group>[^/]+)"
    r"/providers/Microsoft\.DataFactory/factories/(?P<factory>[^/]+)"
)
_PIPELINE = r"/pipelines/(?P<pipeline>[^/]+)"
_RUN = r"/pipelineruns/(?P<run>[^/]+)"

_TABLE = [
    (method, re.compile(_FACTORY + path, re.IGNORECASE), operation)
    for method, path, operation in (
        ("GET", "", Operation.GET_FACTORY),
        ("GET", "/pipelines", Operation.LIST_PIPELINES),
        ("GET", _PIPELINE, Operation.GET_PIPELINE),
        ("PUT", _PIPELINE, Operation.PUT_PIPELINE),
        ("DELETE", _PIPELINE, Operation.DELETE_PIPELINE),
        ("POST", _PIPELINE + "/createRun", Operation.CREATE_RUN),
        ("POST", "/queryPipelineRuns", Operation.QUERY_RUNS),
        ("GET", _RUN, Operation.GET_RUN),
        ("POST", _RUN + "/cancel", Operation.CANCEL_RUN),
        ("POST", _RUN + "/queryActivityruns", Operation.QUERY_ACTIVITY_RUNS),
    )
]


def find_route(method: str, raw_path: str) -> Route | None:
    """The operation behind a method and a still encoded path, or None."""
    for wanted, pattern, operation in _TABLE:
        match = pattern.fullmatch(raw_path) if method == wanted else None
        if match is None:
            continue
        found = {name: unquote(value) for name, value in match.groupdict().items()}
        factory = Factory(found["subscription"], found["group"], found["factory"])
        return Route(operation, factory, found.get("pipeline"), found.get("run"))
    return None
