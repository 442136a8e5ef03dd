"""`$cbs`: the place where clients put their tokens.

https://learn.microsoft.com/azure/service-bus-messaging/service-bus-amqp-protocol-guide#claims-based-authorization
"""

from local.service_bus.amqp.requests import Reply, Request
from local.service_bus.amqp.token import check
from local.service_bus.errors import MalformedError

_PUT_TOKEN = "put-token"


class Cbs:
    """Takes any well-formed token for everything."""

    kind = "AmqpCbsLink"
    status_field = "status-code"
    description_field = "status-description"

    def operation(self, request: Request) -> str:
        """There is one operation."""
        return str(request.properties.get("operation"))

    def handle(self, request: Request) -> Reply:
        """Let the connection attach links from now on."""
        if self.operation(request) != _PUT_TOKEN:
            raise MalformedError(f"There is no operation {self.operation(request)!r}.")
        check(request.body, request.properties.get("type"), request.connection.broker.now())
        request.connection.authorized = True
        return Reply(status=202, description="Accepted")
