"""Web activity: an HTTP request, really sent.

See https://learn.microsoft.com/azure/data-factory/control-flow-web-activity; the error codes are in
https://learn.microsoft.com/azure/data-factory/data-factory-troubleshoot-guide#web-activity
"""

import asyncio
import json
from dataclasses import dataclass
from http import HTTPStatus

import aiohttp

from local.adf.activities.attempt import ActivityFailedError, Attempt
from local.adf.activities.web_request import WebRequest
from local.json_value import JsonObject, JsonValue

_LOWEST_ERROR = 400
_POLL_SECONDS = 1.0

# What the service adds to the output of every Web activity, whether it failed or not.
_ACCOUNTING: JsonObject = {
    "effectiveIntegrationRuntime": "AutoResolveIntegrationRuntime (Local)",
    "executionDuration": 0,
    "durationInQueue": {"integrationRuntimeQueue": 0},
}


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    text: str


async def perform(attempt: Attempt) -> None:
    """Send the request and take the answer, which must be a JSON object or empty, as the output."""
    properties = attempt.evaluate(attempt.activity.type_properties)
    attempt.record.input = properties if isinstance(properties, dict) else {}
    attempt.record.output = _ACCOUNTING
    request = WebRequest.of(attempt.record.input, attempt.identity)
    answer = await _call(request)
    if answer.status >= _LOWEST_ERROR:
        raise ActivityFailedError("2108", answer.text or _no_success(request.url, _status(answer.status)))
    attempt.record.output = {
        **_content(answer.text),
        "ADFWebActivityResponseHeaders": {**answer.headers},
        **_ACCOUNTING,
    }


async def _call(request: WebRequest) -> _Answer:
    """Send the request; where the answer is that the work goes on elsewhere, ask there until it is done."""
    timeout = aiohttp.ClientTimeout(total=request.timeout.total_seconds())
    try:
        async with aiohttp.ClientSession(timeout=timeout, headers=request.headers) as session:
            answer = await _send(session, request.method, request.url, request.body)
            while request.follows_async and answer.status == HTTPStatus.ACCEPTED and "Location" in answer.headers:
                await asyncio.sleep(_pause(answer.headers.get("Retry-After", "")))
                answer = await _send(session, "GET", answer.headers["Location"], None)
            return answer
    except TimeoutError as error:
        message = (
            "No response from the endpoint. Possible causes: network connectivity, DNS failure, "
            "server certificate validation or timeout."
        )
        raise ActivityFailedError("2128", message) from error
    except (aiohttp.ClientError, ValueError, UnicodeError) as error:
        details = f" More details: Exception message: 'NA - Unknown [ClientSideException] {error}'."
        raise ActivityFailedError("2108", _no_success(request.url, "NA - Unknown") + details) from error


async def _send(session: aiohttp.ClientSession, method: str, url: str, body: bytes | None) -> _Answer:
    async with session.request(method, url, data=body) as answer:
        headers = {name.title(): value for name, value in answer.headers.items()}
        return _Answer(answer.status, headers, await answer.text(errors="replace"))


def _pause(retry_after: str) -> float:
    return float(retry_after) if retry_after.isdecimal() else _POLL_SECONDS


def _content(text: str) -> JsonObject:
    """The fields of the answer; an empty one is told as such."""
    if not text:
        return {"Response": ""}
    try:
        content: JsonValue = json.loads(text)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise ActivityFailedError("3603", "Response Content is not a valid JObject.")
    return content


def _no_success(url: str, status: str) -> str:
    return f"Error calling the endpoint '{url}'. Response status code: '{status}'."


def _status(status: int) -> str:
    known = status in {one.value for one in HTTPStatus}
    return f"{status} - {HTTPStatus(status).phrase.replace(' ', '') if known else 'Unknown'}"
