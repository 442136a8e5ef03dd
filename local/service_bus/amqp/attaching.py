"""A client's wish for a link: what it is for, and whether it may have it."""

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from proton import Link as ProtonLink
from proton import Terminus

from local.service_bus.amqp.address import Address
from local.service_bus.amqp.cbs import Cbs
from local.service_bus.amqp.condition import told
from local.service_bus.amqp.consumer import SESSION_FILTER, Consumer
from local.service_bus.amqp.effect import perform
from local.service_bus.amqp.link import Link
from local.service_bus.amqp.management import Management
from local.service_bus.amqp.publisher import Publisher
from local.service_bus.amqp.requests import Node, Replies, Requests
from local.service_bus.amqp.waiting import LONGEST, Waiting
from local.service_bus.errors import NotAllowedError, RefusedError, UnauthorizedError
from local.service_bus.queue import Queue

if TYPE_CHECKING:
    from local.service_bus.amqp.connection import Connection

_TIMEOUT = "com.microsoft:timeout"


def attach(connection: "Connection", proton: ProtonLink) -> None:
    """Serve a link that a client wants, or refuse it."""
    end = proton.remote_source if proton.is_sender else proton.remote_target
    address = Address.parse(end.address)

    def answer(result: Link | RefusedError) -> None:
        if isinstance(result, RefusedError):
            proton.condition = told(result)
            proton.source.type = proton.target.type = Terminus.UNSPECIFIED
            proton.open()
            proton.close()
            connection.touch()

    perform(connection, "attach", lambda: _serve(connection, proton, address), answer)


def _serve(connection: "Connection", proton: ProtonLink, address: Address) -> Link:
    """Raises RefusedError."""
    if not address.cbs and not connection.authorized:
        raise UnauthorizedError("Unauthorized access. Put a token to $cbs first.")
    link: Link
    if address.cbs or address.management:
        broker = connection.broker
        node: Node = Cbs() if address.cbs else Management(broker.namespace.find(address.entity))
        link = Replies(connection, proton, node) if proton.is_sender else Requests(connection, proton, node)
    else:
        queue = connection.broker.namespace.find(address.entity)
        if proton.is_sender:
            return _consume(connection, Consumer(connection, proton, queue), queue)
        link = Publisher(connection, proton, queue)
    connection.serve(link)
    link.attach()
    return link


def _consume(connection: "Connection", consumer: Consumer, queue: Queue) -> Consumer:
    """Attach a receiver: with sessions only where the queue has them, at once or when one is available."""
    filters = _filters(consumer.proton)
    wants_session, now = SESSION_FILTER in filters, connection.broker.now()
    if wants_session != queue.description.requires_session:
        raise NotAllowedError(
            "A sessionful message receiver cannot be created on an entity that does not require sessions."
            if wants_session
            else "It is not possible for an entity that requires sessions to create a non-sessionful message receiver."
        )
    if not wants_session:
        connection.serve(consumer)
        consumer.attach()
        return consumer
    session = queue.accept_session(filters[SESSION_FILTER], consumer.holder, now)
    connection.serve(consumer)
    if session is not None:
        consumer.attach_to_session(session.session_id)
    else:
        properties = consumer.proton.remote_properties or {}
        patience = properties.get(_TIMEOUT)
        longest = LONGEST if patience is None else timedelta(milliseconds=int(patience))
        connection.broker.dispatch.wait(Waiting.start(consumer, longest))
    return consumer


def _filters(proton: ProtonLink) -> Mapping[Any, Any]:
    """The filters of a link's source, by name."""
    data = proton.remote_source.filter
    data.rewind()
    found = data.get_object() if data.next() is not None else None
    filters = found if isinstance(found, Mapping) else {}
    return {name: getattr(value, "value", value) for name, value in filters.items()}
