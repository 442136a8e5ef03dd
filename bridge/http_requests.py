"""From an HTTP body to a trigger request or a wait request: checked, complete, or refused with every bad field."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Never

from bridge import policy
from bridge.errors import (
    BadJson,
    BodyTooLarge,
    FactoryNotAllowed,
    FieldError,
    InvalidFields,
    MissingIdempotencyKey,
    TargetUnknown,
    TokenMismatch,
)
from bridge.fields import Fields, is_unicode, kind_of
from bridge.hashing import canonical_hash
from bridge.model import (
    Continuation,
    FactoryId,
    Match,
    Mode,
    NewTry,
    OnAbandon,
    PreviousTry,
    Recovery,
    RecoveryMode,
    RunKey,
    RunStatus,
    TaskRef,
    TriggerRequest,
    WaitRequest,
    Wrapped,
    is_run_id,
    match_key,
)
from bridge.policy import Rules

# https://learn.microsoft.com/azure/azure-resource-manager/management/azure-subscription-service-limits
MAX_PARAMETERS: Final = 50
# "Bytes per payload for each activity run" there: a wrapper hands all parameters to one activity.
MAX_PARAMETERS_BYTES: Final = 896 * 1024
KEY_CHARS: Final = 255
# https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules#microsoftdatafactory
PIPELINE_CHARS: Final = 260
MAX_DEPTH: Final = 64
MOST_WAITS: Final = 500
_REPLY_TO: Final = re.compile(r"[A-Za-z0-9._~-]{1,128}")
_SETTING_OF: Final = {Mode.RESUME: "URL", Mode.QUEUE: "QUEUE"}
_ENDS: Final = tuple(status for status in RunStatus if status.is_terminal)


@dataclass(frozen=True, slots=True)
class RunWait:
    """A request to wait for an existing run, or, with a match, for one that is to be found."""

    key: RunKey
    wait: WaitRequest


@dataclass(frozen=True, slots=True)
class RunCancel:
    """A request to cancel a run; without a factory, of a run that the bridge knows.

    With a `token` it is cancelled only if nobody but that wait's task waits for it.
    """

    factory: FactoryId | None
    recursive: bool
    token: str | None = None


def load_object(body: bytes, *, most: int) -> dict[str, Any]:
    """Parse a body that has to be a JSON object; its size is checked before it is parsed."""
    if len(body) > most:
        msg = f"It has {len(body)} bytes; {most} are allowed (BRIDGE_MAX_BODY_BYTES)."
        raise BodyTooLarge(msg)
    try:
        document = json.loads(body, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError:
        msg = "It is nested too deeply."
        raise BadJson(msg) from None
    except ValueError as error:
        place = f" at line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        msg = f"It could not be read as UTF-8 JSON{place}. Send an object with Content-Type: application/json."
        raise BadJson(msg) from None
    if not isinstance(document, dict):
        msg = f"It is {kind_of(document)}. Send an object."
        raise BadJson(msg)
    if _depth(document) > MAX_DEPTH:
        msg = f"It is nested too deeply: {MAX_DEPTH} levels are allowed."
        raise BadJson(msg)
    return document


def _depth(document: object) -> int:
    """Return how many levels of objects and lists a document has, without recursing into it."""
    depth, level = 0, [document]
    while level := [one for one in level if isinstance(one, dict | list)]:
        depth += 1
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
    return depth


def _no_constant(name: str) -> Never:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        msg = "a number is too large"
        raise ValueError(msg)
    return number


def trigger_request(document: Mapping[str, Any], idempotency_key: str | None, rules: Rules) -> TriggerRequest:
    """Read the body of `POST /runs`."""
    if not idempotency_key:
        msg = (
            "Send the header Idempotency-Key, new for each run that you want and the same when you repeat a request; "
            "with a wait, it is the wait's token."
        )
        raise MissingIdempotencyKey(msg)
    fields = Fields(document)
    header = Fields({"Idempotency-Key": idempotency_key})
    key = header.text("Idempotency-Key", most=KEY_CHARS)
    header.finish()
    factory_text = fields.text("factory", most=500)
    pipeline = fields.text("pipeline", most=PIPELINE_CHARS)
    fields.check("pipeline", pipeline, _is_segment, "is no pipeline's name")
    parameters = _parameters(fields)
    wrapped = fields.one_of("wrapped", Wrapped, default=Wrapped.AUTO)
    recover_from = _recovery(fields) if fields.has("recover_from") else None
    if recover_from is not None and wrapped is Wrapped.ALWAYS:
        fields.wrong("wrapped", "cannot be 'always' with `recover_from`: the pipeline itself is run again")
    previous = _continuation(fields.nested("previous")) if fields.has("previous") else None
    wait = _wait(fields.nested("wait"), rules) if fields.has("wait") else None
    if wait is not None and wait.reply_to is not None:
        fields.wrong("wait.reply_to", "is for POST /waits: only the listener knows it, once the task is deferred")
    if previous is not None and wait is None:
        fields.wrong("previous", "needs `wait`: it names the task whose previous try is meant")
    fields.no_others()
    fields.finish()
    if wait is not None:
        _check_target(wait, rules)
        if wait.task.token != key:
            msg = (
                f"The Idempotency-Key has to be the token of wait.task, {wait.task.token}. "
                "Bridge and caller compute it alike (docs/api.md, Tokens)."
            )
            raise TokenMismatch(msg)
    return TriggerRequest(
        idempotency_key=key,
        body_hash=body_hash(document),
        factory=allowed_factory(factory_text, rules),
        pipeline=pipeline,
        parameters=parameters,
        wait=wait,
        wrapped=wrapped,
        recover_from=recover_from,
        previous=previous,
    )


def _recovery(fields: Fields) -> Recovery:
    """Read which run is to be run again. ADF takes that run's own parameters, and leaves out those it is given."""
    recovery = fields.nested("recover_from")
    run_id = recovery.text("run_id")
    recovery.check("run_id", run_id, is_run_id, "is no run id")
    mode = recovery.one_of("mode", RecoveryMode, default=RecoveryMode.FROM_FAILURE)
    activity = recovery.optional_text("activity", most=PIPELINE_CHARS)
    if (activity is not None) is not (mode is RecoveryMode.FROM_ACTIVITY):
        recovery.wrong("activity", f"goes with the mode '{RecoveryMode.FROM_ACTIVITY}', and only with that one")
    recovery.no_others()
    if fields.has("parameters") and fields.json_object("parameters"):
        fields.wrong("parameters", "has to be left out with `recover_from`: ADF takes the parameters of that run")
    return Recovery(run_id, mode, activity)


def _continuation(fields: Fields) -> Continuation:
    """Read what a try does about the run of the one before."""
    do = fields.one_of("do", PreviousTry)
    after = fields.one_of("after", NewTry)
    since_try = fields.whole("since_try", low=0) if fields.has("since_try") else 0
    fields.no_others()
    return Continuation(do, after, since_try)


def run_wait(document: object, rules: Rules) -> RunWait:
    """Read the body of `POST /waits`: with `factory` and `run_id`, or with `match`."""
    if not isinstance(document, dict):
        raise InvalidFields([FieldError("waits", f"has to be a list of objects, and holds {kind_of(document)}")])
    fields = Fields(document)
    if not fields.has("match"):
        factory_text = fields.text("factory", most=500)
        run_id = fields.text("run_id")
        fields.check("run_id", run_id, is_run_id, "is no run id")
        wait = _wait(fields, rules)
        fields.finish()
        _check_target(wait, rules)
        return RunWait(RunKey(allowed_factory(factory_text, rules), run_id), wait)
    factory_text, match = _match(fields.nested("match"))
    wait = _wait(fields, rules)
    if wait.on_abandon is not OnAbandon.LEAVE:
        fields.wrong("on_abandon", "has to be 'leave' with a match: a run that others start is not cancelled")
    fields.finish()
    _check_target(wait, rules)
    key = match_key(allowed_factory(factory_text, rules), match.pipeline, wait.task.token)
    return RunWait(key, replace(wait, match=match))


def wait_batch(document: Mapping[str, Any]) -> list[object]:
    """Read the body of `POST /waits/batch`: a list of bodies of `POST /waits`, not looked into yet."""
    fields = Fields(document)
    waits = fields.entries("waits", most=MOST_WAITS)
    fields.no_others()
    fields.finish()
    return waits


def _match(fields: Fields) -> tuple[str, Match]:
    """Read which run is waited for."""
    factory = fields.text("factory", most=500)
    pipeline = fields.text("pipeline", most=PIPELINE_CHARS)
    fields.check("pipeline", pipeline, _is_segment, "is no pipeline's name")
    if policy.is_wrapper(pipeline):
        # What its notices name, and whose end counts, is the pipeline that it runs.
        fields.wrong("pipeline", f"is a wrapper: name the pipeline that it runs, {policy.unwrapped(pipeline)!r}")
    since = fields.time("since")
    statuses = fields.some_of("statuses", _ENDS)
    fields.no_others()
    return factory, Match(pipeline, since, statuses)


def run_cancel(document: Mapping[str, Any], rules: Rules) -> RunCancel:
    """Read the body of `POST /runs/{run_id}/cancel`."""
    fields = Fields(document)
    factory_text = fields.optional_text("factory", most=500)
    recursive = fields.yes_or_no("recursive", default=True)
    token = fields.optional_text("token")
    fields.no_others()
    fields.finish()
    return RunCancel(allowed_factory(factory_text, rules) if factory_text else None, recursive, token)


def body_hash(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a body's canonical JSON: the order of its keys does not matter."""
    return canonical_hash(document)


def allowed_factory(text: str, rules: Rules) -> FactoryId:
    """Return the factory of an alias or ARM id, or refuse it."""
    factory = rules.factory(text)
    if factory is None:
        known = ", ".join(sorted(rules.factories))
        msg = f"Name one of these, or have an operator add it to BRIDGE_FACTORIES: {known}."
        raise FactoryNotAllowed(msg)
    return factory


def _check_target(wait: WaitRequest, rules: Rules) -> None:
    if wait.task.target not in rules.targets:
        msg = (
            "Check `target` in the Airflow connection of the bridge, or have an operator add "
            "BRIDGE_AIRFLOW__<TARGET>__URL to the bridge's settings."
        )
        raise TargetUnknown(msg)


def _parameters(fields: Fields) -> Mapping[str, Any]:
    parameters = fields.json_object("parameters")
    if len(parameters) > MAX_PARAMETERS:
        fields.wrong("parameters", f"has {len(parameters)} entries; a pipeline has at most {MAX_PARAMETERS}")
    text = json.dumps(parameters, ensure_ascii=False)
    if not is_unicode(text):
        fields.wrong("parameters", "holds half a surrogate pair, which is no text")
    elif (size := len(text.encode())) > MAX_PARAMETERS_BYTES:
        fields.wrong("parameters", f"has {size} bytes as JSON; Data Factory takes {MAX_PARAMETERS_BYTES}")
    return parameters


def _wait(fields: Fields, rules: Rules) -> WaitRequest:
    target = fields.text("target").lower()
    mode = fields.one_of("mode", Mode)
    known = rules.targets.get(target)
    if known is not None and mode not in known.modes:
        missing = f"BRIDGE_AIRFLOW__{target.upper()}__{_SETTING_OF[mode]}"
        fields.wrong("mode", f"has to be another one for this target: {missing} is not set on the bridge")
    reply_to = fields.optional_text("reply_to", most=128)
    if reply_to is not None:
        wording = "has to be 1 to 128 letters, digits, '.', '_', '~' and '-'"
        fields.check("reply_to", reply_to, lambda text: _REPLY_TO.fullmatch(text) is not None, wording)
        if mode is not Mode.QUEUE:
            fields.wrong("reply_to", "goes with the mode 'queue', and only with that one")
    reference = _task(target, fields.nested("task"))
    deadline = fields.time("deadline")
    on_abandon = fields.one_of("on_abandon", OnAbandon, default=OnAbandon.LEAVE)
    keep = fields.yes_or_no("keep_for_next_try", default=False)
    fields.no_others()
    return WaitRequest(
        task=reference,
        mode=mode,
        deadline=deadline,
        on_abandon=on_abandon,
        keep_for_next_try=keep,
        reply_to=reply_to,
    )


def _task(target: str, task: Fields) -> TaskRef:
    reference = TaskRef(
        target=target,
        dag_id=_segment(task, "dag_id"),
        run_id=_segment(task, "run_id"),
        task_id=_segment(task, "task_id"),
        map_index=task.whole("map_index", low=-1),
        try_number=task.whole("try_number", low=0),
        task_instance_id=task.optional_text("task_instance_id", most=64),
        nonce=task.text("nonce", most=128),
    )
    task.no_others()
    return reference


def token_of(body: object) -> str | None:
    """Return the token that the body of `POST /waits` is about, whatever else is wrong with it; None without one."""
    fields = Fields(body if isinstance(body, dict) else {})
    task = _task(fields.text("target").lower(), fields.nested("task"))
    try:
        fields.finish()
    except InvalidFields:
        return None
    return task.token


def _segment(fields: Fields, name: str) -> str:
    """Read a name that becomes part of a path of Airflow's API, which cannot address one with a slash in it."""
    value = fields.text(name)
    fields.check(name, value, _is_segment, "must not be '.' or '..' or hold '/': Airflow's API cannot address it")
    return value


def _is_segment(text: str) -> bool:
    return text not in (".", "..") and "/" not in text and "\\" not in text
