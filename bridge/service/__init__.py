"""The use cases: receive an event, start a run, finish a start, register a wait, deliver, attend to what is due.

Each gathers what is known, lets `bridge.decide` decide, and asks for the effects in a fixed order. A use case is a
generator of commands (`bridge.commands`); it performs nothing itself.
"""

from __future__ import annotations

from bridge.service.abandoning import Watched, watch
from bridge.service.answering import StartAnswer
from bridge.service.asking import Asked
from bridge.service.breakers import factory_breaker, target_breaker
from bridge.service.cancelling import Cancelled, cancel_abandoned, cancel_run, waiting_for
from bridge.service.checking import Checked, check_run
from bridge.service.delivering import attend, deliver
from bridge.service.finishing import Finished, finish
from bridge.service.receiving import Received, receive
from bridge.service.registering import Registered, register_wait, withdraw
from bridge.service.starting import start_run
from bridge.service.sweeping import Swept, sweep

__all__ = [
    "Asked",
    "Cancelled",
    "Checked",
    "Finished",
    "Received",
    "Registered",
    "StartAnswer",
    "Swept",
    "Watched",
    "attend",
    "cancel_abandoned",
    "cancel_run",
    "check_run",
    "deliver",
    "factory_breaker",
    "finish",
    "receive",
    "register_wait",
    "start_run",
    "sweep",
    "target_breaker",
    "waiting_for",
    "watch",
    "withdraw",
]
