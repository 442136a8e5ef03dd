"""Factories, and how ARM names them.

ARM compares resource ids without regard to case:
https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

from local.adf.arm_error import ArmError

_FACTORY_ID = re.compile(
    r"/subscriptions/(?P<subscription>[^/]+)/resourceGroups/(?P<group>[^/]+)"
    r"/providers/Microsoft\.DataFactory/factories/(?P<name>[^/]+)/?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Factory:
    """One data factory."""

    subscription: str
    group: str
    name: str

    @classmethod
    def from_id(cls, arm_id: str) -> Self:
        """Read an ARM id. Raises ValueError."""
        match = _FACTORY_ID.fullmatch(arm_id)
        if match is None:
            raise ValueError(
                f"{arm_id!r} is no factory's ARM id, which is "
                "/subscriptions/<id>/resourceGroups/<name>/providers/Microsoft.DataFactory/factories/<name>"
            )
        return cls(match["subscription"], match["group"], match["name"])

    @property
    def id(self) -> str:
        """The ARM id, in ARM's own spelling."""
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.group}"
            f"/providers/Microsoft.DataFactory/factories/{self.name}"
        )


class Factories:
    """The factories that exist."""

    def __init__(self, factories: Iterable[Factory]) -> None:
        """Declare them."""
        self._by_id = {factory.id.lower(): factory for factory in factories}

    def __iter__(self) -> Iterator[Factory]:
        """Every factory, in the order of declaration."""
        return iter(self._by_id.values())

    def find(self, asked: Factory) -> Factory:
        """The declared factory of that id, whatever its case. Raises ArmError (404) and says what is missing,
        as ARM does.
        """
        found = self._by_id.get(asked.id.lower())
        if found is not None:
            return found
        known = self._by_id.values()
        if all(factory.subscription.lower() != asked.subscription.lower() for factory in known):
            raise ArmError(404, "SubscriptionNotFound", f"The subscription '{asked.subscription}' could not be found.")
        if all(factory.group.lower() != asked.group.lower() for factory in known):
            raise ArmError(404, "ResourceGroupNotFound", f"Resource group '{asked.group}' could not be found.")
        message = (
            f"The Resource 'Microsoft.DataFactory/factories/{asked.name}' under resource group "
            f"'{asked.group}' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix"
        )
        raise ArmError(404, "ResourceNotFound", message)
