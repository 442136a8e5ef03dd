"""A receiver that waits for the next available session, as long as its client said."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from local.service_bus.errors import TimedOutError

if TYPE_CHECKING:
    from local.service_bus.amqp.consumer import Consumer

LONGEST = timedelta(seconds=60)
"""How long where the client does not say."""


@dataclass(slots=True)
class Waiting:
    """The receiver, and the timer of its patience."""

    consumer: "Consumer"
    timer: asyncio.TimerHandle

    @classmethod
    def start(cls, consumer: "Consumer", patience: timedelta) -> "Waiting":
        """Wait from now on."""

        def give_up() -> None:
            consumer.detach(TimedOutError("The operation did not complete within the allotted time."))
            consumer.broker.settle_down()

        return cls(consumer, consumer.broker.loop.call_later(patience.total_seconds(), give_up))

    def try_again(self) -> bool:
        """Attach where there is a session now. Returns whether there was."""
        consumer = self.consumer
        session = consumer.queue.accept_session(None, consumer.holder, consumer.broker.now())
        if session is not None:
            consumer.attach_to_session(session.session_id)
            consumer.connection.touch()
        return session is not None
