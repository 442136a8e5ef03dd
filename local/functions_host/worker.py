"""Microsoft's Python worker library, driven as the real host drives it.

The library keeps its state in module globals: one app per process.
"""

import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import azure_functions_runtime as runtime

from local.functions_host import messages
from local.functions_host.bindings import Function, parse_function
from local.functions_host.retry_policy import read_retry_policy


class IndexingError(Exception):
    """The app could not be indexed. The message is the worker's own, with the stack trace."""


class InvocationFailedError(Exception):
    """A function raised. The message names type and text of its exception; `stack_trace` tells where."""

    def __init__(self, message: str, stack_trace: str = "") -> None:
        """Keep both parts of what the worker said."""
        super().__init__(message)
        self.stack_trace = stack_trace


@dataclass(frozen=True)
class InvocationInput:
    """What a trigger hands to a function: its parameter's value, the metadata beside it, the trace it belongs
    to, and which retry this is.
    """

    data: messages.TypedData
    metadata: dict[str, messages.TypedData]
    trace_parent: str = ""
    trace_state: str = ""
    retry: messages.RetryContext = messages.FIRST_RUN


class Worker:
    """The app, indexed and ready to be invoked."""

    def __init__(self) -> None:
        """Make a worker without an app; `load` gives it one."""
        self.functions: tuple[Function, ...] = ()

    async def load(self, app: Path) -> None:
        """Import `function_app.py` and index its functions. Raises IndexingError or BindingError."""
        sys.path.insert(0, str(app))
        runtime.start_threadpool_executor()  # PYTHON_THREADPOOL_THREAD_COUNT says how many threads
        init = messages.WorkerInitRequest(function_app_directory=str(app))
        response = await _call(runtime.worker_init_request, "worker_init_request", init)
        if response.result.status != messages.StatusResult.Success:
            raise IndexingError(response.result.exception.stack_trace or response.result.exception.message)
        metadata = await _call(runtime.functions_metadata_request, "functions_metadata_request", None)
        if not metadata.function_metadata_results:
            raise IndexingError(
                f"No functions were found: {app} needs a function_app.py whose FunctionApp declares some."
            )
        self.functions = tuple(
            parse_function(
                found.name,
                found.function_id,
                list(found.raw_bindings),
                retry=read_retry_policy(found.retry_options),
            )
            for found in metadata.function_metadata_results
        )

    async def invoke(self, function: Function, invocation_id: str, given: InvocationInput) -> messages.TypedData | None:
        """Run a function once and return its return value. Raises InvocationFailedError when it fails."""
        request = messages.InvocationRequest(
            invocation_id=invocation_id,
            function_id=function.id,
            input_data=(messages.ParameterBinding(function.trigger_parameter, given.data),),
            trigger_metadata=given.metadata,
            trace_context=messages.TraceContext(given.trace_parent, given.trace_state),
            retry_context=given.retry,
        )
        response = await _call(runtime.invocation_request, "invocation_request", request)
        if response.result.status != messages.StatusResult.Success:
            raise InvocationFailedError(response.result.exception.message, response.result.exception.stack_trace)
        return cast("messages.TypedData | None", response.return_value)


def current_invocation_id() -> str | None:
    """The invocation that the calling thread of the worker's pool is running."""
    return cast("str | None", runtime.invocation_id_cv.get())


async def _call(handler: Callable[[Any], Awaitable[Any]], name: str, message: object) -> Any:  # noqa: ANN401
    """Pass one request to the worker, in the envelope that it expects."""
    envelope = SimpleNamespace(
        name=name,
        request=SimpleNamespace(**{name: message}),
        properties={"host": "127.0.0.1", "protos": messages},
    )
    return await handler(envelope)
