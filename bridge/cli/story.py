"""A wait's story for a person: what it is about, what happened when, and what happens next. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from bridge.model import WaitState

Document = Mapping[str, Any]

STATES: Final = {
    WaitState.OPEN: "the run goes on",
    WaitState.DUE: "the completion is decided and is being delivered",
    WaitState.DELIVERED: "Airflow has the completion",
    WaitState.INLINE: "the run had ended when the wait was registered: the answer was the completion",
    WaitState.STALE: "the task is no longer the try that waited",
    WaitState.OVERRIDDEN: "a person, or Airflow itself, ended the task first",
    WaitState.GONE: "Airflow does not know the task any more",
    WaitState.EXPIRED: "the completion could not be delivered in time",
    WaitState.WITHDRAWN: "the caller stopped waiting",
}
REASONS: Final = {
    WaitState.DELIVERED: "Airflow has it",
    WaitState.INLINE: "the caller has it",
    WaitState.STALE: "another try of the task has a wait of its own",
    WaitState.OVERRIDDEN: "the task has ended without it",
    WaitState.GONE: "there is no task to tell",
    WaitState.EXPIRED: "it is offered to Airflow no longer",
    WaitState.WITHDRAWN: "nobody waits",
}
_WORDS_SHOWN: Final = 300
UNREADABLE: Final = "This answer cannot be told as a story: is the bridge of another version?"


def tell(answer: Document, now: datetime) -> str:
    """Return the story in the answer to `GET /waits/{token}`, in lines; times in UTC."""
    try:
        return "\n".join([*_header(answer), "", *_timeline(answer["wait"]), "", _next(answer["wait"], now)])
    except (KeyError, TypeError, ValueError):
        return UNREADABLE


def plain(text: object) -> str:
    """Return a text that stays on its line: control characters and changes of writing direction are spelled out."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(text))


def _header(answer: Document) -> Iterator[str]:
    wait, run, completed = answer["wait"], answer["run"], answer["completed"]
    task = wait["task"]
    index = f"[{task['map_index']}]" if task["map_index"] != -1 else ""
    name = f"{task['dag_id']} / {task['task_id']}{index}"
    yield plain(f"task      {name}, try {task['try_number']}, on {wait['target']}")
    yield plain(f"          DAG run {task['run_id']}")
    if run is None:
        yield plain(f"run       {wait['run_id']}")
    else:
        status = run["status"] or "not asked yet"
        yield plain(
            f"run       {run['run_id']} of {run['pipeline'] or 'a pipeline'} in {run['factory_alias']}: {status}"
        )
        yield plain(f"          {run['monitor_url']}")
    meaning = STATES.get(wait["state"], "a state that is unknown here")
    yield plain(f"state     {wait['state']}: {meaning}")
    if completed is not None:
        yield plain(f"outcome   {completed['status']}" + (f": {completed['message']}" if completed["message"] else ""))
    failed = (completed or run or {}).get("failed_activity")
    if failed is not None:
        yield from _cause(failed)
    yield f"deadline  {_clock(_time(wait['deadline']))}"


def _cause(failed: Document) -> Iterator[str]:
    """Tell what made the run fail. A bridge of an earlier version tells less of it."""
    yield plain(f"cause     {_failure(failed)}")
    if failed.get("path"):
        yield plain(f"          in run {failed['run_id']} of {failed['pipeline'] or 'a pipeline'}, {_way(failed)}")
    for other in failed.get("others", ()):
        yield plain(f"also      {_failure(other)}" + (f" ({_way(other)})" if other["path"] else ""))


def _failure(failed: Document) -> str:
    kind = f" ({failed['type']})" if failed["type"] else ""
    code = f" with error {failed['error_code']}" if failed["error_code"] else ""
    words = str(failed["message"] or "")
    said = words if len(words) <= _WORDS_SHOWN else words[:_WORDS_SHOWN] + "…"
    return f"activity '{failed['name']}'{kind} failed{code}" + (f": {said}" if said else "")


def _way(failed: Document) -> str:
    return "by way of " + " > ".join(f"'{name}'" for name in failed["path"])


def _timeline(wait: Document) -> Iterator[str]:
    registered = _time(wait["registered_at"])
    lines = [(_time(line["at"]), plain(line["what"]), plain(line["detail"])) for line in wait["timeline"]]
    width = max([len("what"), *(len(what) for _, what, _ in lines)])
    yield f"{'time':<24}  {'seconds':>10}  {'what':<{width}}  detail"
    for at, what, detail in lines:
        since = (at - registered).total_seconds()
        yield f"{_clock(at)}  {since:>+10.3f}  {what:<{width}}  {detail}".rstrip()


def _next(wait: Document, now: datetime) -> str:
    state = wait["state"]
    cancelling = state != WaitState.INLINE and wait["due_at"] is not None
    if (reason := REASONS.get(state)) is not None and not cancelling:
        return f"Nothing more will happen: {reason}."
    if state not in STATES or wait["due_at"] is None:
        return "What happens next is unknown here."
    due_at = _time(wait["due_at"])
    when = f"at {_clock(due_at)}" if due_at > now else "as soon as the timer fires"
    if state in REASONS:
        return f"The run, for which nobody waits any more, is to be cancelled: tried again {when}."
    if state == WaitState.OPEN:
        return f"The bridge waits for the run's end: by an event, by a sweep, or by reading the run {when}."
    match wait["timeline"][-1]["what"] if wait["timeline"] else "":
        case "paused":
            return f"The target is paused; it will be tried again {when}, or later if its pause lasts."
        case "observed":
            return f"Nothing is sent while the target is in observe mode; the task will be looked at again {when}."
        case "not-parked" | "missing" | "held":
            return f"The task will be looked at again {when}."
        case _:
            return f"The delivery will be tried again {when}."


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _clock(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S.%f}"[:-3] + "Z"
