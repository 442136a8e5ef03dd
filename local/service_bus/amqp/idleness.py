"""Links and connections that nobody uses are closed, as Service Bus does it.

https://learn.microsoft.com/azure/service-bus-messaging/service-bus-amqp-troubleshoot
"""

from datetime import timedelta
from typing import TYPE_CHECKING

from local.service_bus.errors import RefusedError

if TYPE_CHECKING:
    from local.service_bus.amqp.connection import Connection
    from local.service_bus.amqp.link import Link

LINK_IDLE = timedelta(minutes=10)
CONNECTION_IDLE = timedelta(minutes=5)
"""How long a connection may have no links, those for tokens aside."""


def watch_link(link: "Link", factor: float) -> None:
    """Detach a link when nothing was transferred and no credit given on it for ten minutes (times `factor`)."""
    limit = LINK_IDLE.total_seconds() * factor
    loop, broker = link.broker.loop, link.broker

    def look() -> None:
        left = link.used_at + limit - loop.time()
        if link.alive and left <= 0:
            broker.counts.idle_detaches += 1
            link.detach(
                RefusedError(
                    f"The link '{link.name}' is force detached. Code: {link.kind}. "
                    f"Details: {link.kind}.IdleTimerExpired: Idle timeout: 00:10:00.",
                    condition="amqp:link:detach-forced",
                )
            )
            broker.settle_down()
        elif link.alive:
            loop.call_later(left, look)

    if link.may_idle:
        loop.call_later(limit, look)


def watch_connection(connection: "Connection", factor: float) -> None:
    """Close a connection that had no links for five minutes (times `factor`)."""
    limit = CONNECTION_IDLE.total_seconds() * factor
    loop, broker = connection.broker.loop, connection.broker

    def look() -> None:
        if connection not in broker.connections:
            return
        if any(link.alive and link.may_idle for link in connection.links.values()):
            connection.linked_at = loop.time()
        left = connection.linked_at + limit - loop.time()
        if left <= 0:
            connection.close(
                RefusedError(
                    "The connection was inactive for more than the allowed 300000 milliseconds and is closed by "
                    "container 'local-service-bus'.",
                    condition="amqp:connection:forced",
                )
            )
            broker.settle_down()
        else:
            loop.call_later(left, look)

    loop.call_later(limit, look)
