"""Every rule of the bridge, as pure functions from what is known to what shall be.

Nothing here does I/O, sleeps or reads a clock. The numbers are in `bridge.policy`.

| module | rules |
| --- | --- |
| `run_events` | what a run event means |
| `readings` | what a reading of ADF, or a deadline, means for a run and the waits for it |
| `matching` | which run a wait by match means, and whom else an answer of ADF's serves |
| `registering` | what registering a wait comes to, and withdrawing it |
| `starting` | what a trigger request comes to: at most one createRun for a key |
| `searching` | which run is the one that a lost createRun started |
| `finishing` | what becomes of a trigger request whose caller has died |
| `continuing` | how a try goes on from the one before |
| `delivery` | the fence, and every answer of Airflow: when a parked task is answered, and what came of it |
| `queueing` | mode queue: who is told, when it is sent, and what the broker's answer means |
| `abandoning` | whether a run is waited for any more, and what becomes of it when it is not |
| `sweeping` | what a sweep of a factory looks at |
| `breakers` | who may be called: the pause of a target or a factory, its probe, its end |
"""

from __future__ import annotations

from bridge.decide.abandoning import (
    after_cancel,
    in_turn,
    is_waited_for_besides,
    keeps_running,
    let_run,
    nominated,
    on_cancel,
    on_look,
    tell_of_cancel,
    watched,
)
from bridge.decide.breakers import (
    ABOUT_ONE_THING,
    TROUBLE_OPENS_AFTER,
    breaker_after,
    claim_probe,
    may_call,
    to_attend,
)
from bridge.decide.continuing import (
    attached,
    differs,
    earlier_try,
    go_on,
    has_changed,
    is_overtaken,
    may_be_overtaken,
    not_recovered,
    unsettled,
)
from bridge.decide.delivery import (
    ENDED,
    PARKED,
    TRY_OVER,
    Send,
    Settle,
    after_reply,
    again_by,
    claim,
    on_refusal,
    on_task,
    try_over,
)
from bridge.decide.finishing import (
    is_to_be_finished,
    leave,
    not_to_be_found,
    not_to_be_waited_for,
    put_off,
)
from bridge.decide.matching import (
    Searched,
    earlier,
    is_meant,
    is_news,
    may_end,
    since_of,
)
from bridge.decide.queueing import (
    ToQueue,
    on_queued,
    to_queue,
)
from bridge.decide.readings import (
    OUTCOME_OF,
    DueBefore,
    apply_reading,
    become_due,
    completion_of,
    count_refusal,
    expire,
    is_past_deadline,
    postpone,
    settle,
    sooner,
    was_denied,
    without_claim,
)
from bridge.decide.registering import (
    Registration,
    check_deadline,
    check_free,
    owned,
    register,
    take_inline,
    withdraw,
)
from bridge.decide.run_events import (
    Judgement,
    claimed_by,
    judge_event,
    most_telling,
    verdict_of,
)
from bridge.decide.searching import (
    adopted,
    alike,
    on_refused_search,
    on_search,
    search_window,
    searching,
    to_search,
)
from bridge.decide.starting import (
    Admission,
    admit,
    as_started,
    in_flight,
    instead_of_recovery,
    is_unrecoverable,
    key_parameter,
    leased,
    may_be_outdated,
    no_wait,
    pipeline_to_start,
    to_recover,
    unknown_outcome,
)
from bridge.decide.sweeping import (
    SweepPlan,
    childrens_news,
    completed_sweep,
    forget_coverage,
    is_child,
    is_sweep_due,
    news,
    plan_sweep,
    take_sweep,
    to_look_at,
)

__all__ = [
    "ABOUT_ONE_THING",
    "ENDED",
    "OUTCOME_OF",
    "PARKED",
    "TROUBLE_OPENS_AFTER",
    "TRY_OVER",
    "Admission",
    "DueBefore",
    "Judgement",
    "Registration",
    "Searched",
    "Send",
    "Settle",
    "SweepPlan",
    "ToQueue",
    "admit",
    "adopted",
    "after_cancel",
    "after_reply",
    "again_by",
    "alike",
    "apply_reading",
    "as_started",
    "attached",
    "become_due",
    "breaker_after",
    "check_deadline",
    "check_free",
    "childrens_news",
    "claim",
    "claim_probe",
    "claimed_by",
    "completed_sweep",
    "completion_of",
    "count_refusal",
    "differs",
    "earlier",
    "earlier_try",
    "expire",
    "forget_coverage",
    "go_on",
    "has_changed",
    "in_flight",
    "in_turn",
    "instead_of_recovery",
    "is_child",
    "is_meant",
    "is_news",
    "is_overtaken",
    "is_past_deadline",
    "is_sweep_due",
    "is_to_be_finished",
    "is_unrecoverable",
    "is_waited_for_besides",
    "judge_event",
    "keeps_running",
    "key_parameter",
    "leased",
    "leave",
    "let_run",
    "may_be_outdated",
    "may_be_overtaken",
    "may_call",
    "may_end",
    "most_telling",
    "news",
    "no_wait",
    "nominated",
    "not_recovered",
    "not_to_be_found",
    "not_to_be_waited_for",
    "on_cancel",
    "on_look",
    "on_queued",
    "on_refusal",
    "on_refused_search",
    "on_search",
    "on_task",
    "owned",
    "pipeline_to_start",
    "plan_sweep",
    "postpone",
    "put_off",
    "register",
    "search_window",
    "searching",
    "settle",
    "since_of",
    "sooner",
    "take_inline",
    "take_sweep",
    "tell_of_cancel",
    "to_attend",
    "to_look_at",
    "to_queue",
    "to_recover",
    "to_search",
    "try_over",
    "unknown_outcome",
    "unsettled",
    "verdict_of",
    "was_denied",
    "watched",
    "withdraw",
    "without_claim",
]
