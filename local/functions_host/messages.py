"""The messages that host and worker exchange, as plain objects.

On Azure they are protobuf messages over gRPC. The worker library only calls their constructors, asks a
union which of its members is set, and compares enum numbers; so objects with attributes do, and neither
protobuf nor grpc is needed. Names are those of
https://github.com/Azure/azure-functions-language-worker-protobuf/blob/main/src/proto/FunctionRpc.proto
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


class Message:
    """A message whose fields are its constructor's keywords."""

    def __init__(self, **fields: object) -> None:
        """Keep every field as an attribute."""
        self.__dict__.update(fields)


class TypedData(Message):
    """One value: exactly one of `string`, `json`, `bytes`, `http`, `int`, `double`, of the collections
    `collection_string`, `collection_bytes`, `collection_sint64`, or nothing.
    """

    def WhichOneof(self, _union: str) -> str | None:  # noqa: N802 - protobuf's name
        """Name the member that is set."""
        return next(iter(self.__dict__), None)


@dataclass(frozen=True)
class ParameterBinding:
    """A named input or output of an invocation."""

    name: str
    data: TypedData

    def WhichOneof(self, _union: str) -> str:  # noqa: N802 - protobuf's name
        """Say that the value itself is here, not a reference to shared memory."""
        return "data"


class StatusResult(Message):
    """Whether the worker did what it was asked; `exception` says why not."""

    Failure = 0
    Success = 1
    Cancelled = 2
    exception: Message | None = None


class BindingInfo(Message):
    """A declared binding. Directions: 0 in, 1 out, 2 both."""

    out = 1
    inout = 2
    undefined = 0


class RpcHttp(Message):
    """An HTTP request on its way in, or a response on its way out."""


@dataclass(frozen=True)
class TraceContext:
    """The W3C trace that an invocation belongs to."""

    trace_parent: str = ""
    trace_state: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RetryContext:
    """Which retry this is, and of how many (-1: without end)."""

    retry_count: int = 0
    max_retry_count: int = 0
    exception: None = None


FIRST_RUN = RetryContext()


@dataclass(frozen=True)
class WorkerInitRequest:
    """Index the app in this folder."""

    function_app_directory: str
    capabilities: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class InvocationRequest:
    """Run a function once."""

    invocation_id: str
    function_id: str
    input_data: tuple[ParameterBinding, ...]
    trigger_metadata: Mapping[str, TypedData] = field(default_factory=dict)
    trace_context: TraceContext = field(default_factory=TraceContext)
    retry_context: RetryContext = field(default_factory=RetryContext)


class RpcException(Message):
    """An exception of the app: `message` and `stack_trace`."""


class WorkerInitResponse(Message):
    """The answer to WorkerInitRequest."""


class WorkerMetadata(Message):
    """What the worker says of itself."""


class FunctionMetadataResponse(Message):
    """The functions that were found."""


class RpcFunctionMetadata(Message):
    """One function: `name`, `function_id` and its `raw_bindings` (JSON strings)."""


class RpcRetryOptions(Message):
    """A declared retry policy."""


class FunctionLoadResponse(Message):
    """The answer to a request to load a function."""


class InvocationResponse(Message):
    """What became of an invocation: `result`, and on success `return_value` and `output_data`."""
