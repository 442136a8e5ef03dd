"""Operations as clients ask for them, with the faults that tests plan."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from local.faults import Fault
from local.service_bus.errors import RefusedError

if TYPE_CHECKING:
    from local.service_bus.amqp.connection import Connection

Answer = TypeVar("Answer")


def perform(
    connection: "Connection", op: str, act: Callable[[], Answer], answer: Callable[[Answer | RefusedError], None]
) -> None:
    """Do what was asked, count it, and answer with the result or the refusal.

    A fault can delay that, refuse it with its `code` (an AMQP condition) and `status`, or cut the connection
    instead of answering; with the effect "after", only when it is done.
    """
    broker = connection.broker
    broker.counts.operation(op)
    fault = broker.faults.take(op)
    if fault is None:
        answer(_attempt(act))
        return
    early = _attempt(act) if fault.effect == "after" else None

    def late() -> None:
        if fault.drop:
            connection.abort()
        elif fault.code is not None or fault.status is not None:
            answer(_refusal(fault))
        else:
            answer(_attempt(act) if early is None else early)
        connection.touch()
        broker.settle_down()

    broker.loop.call_later(fault.delay_seconds, late)


def _attempt(act: Callable[[], Answer]) -> Answer | RefusedError:
    try:
        return act()
    except RefusedError as error:
        return error


def _refusal(fault: Fault) -> RefusedError:
    return RefusedError(fault.message or "Fault on demand.", condition=fault.code, status=fault.status)
