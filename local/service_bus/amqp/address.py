"""What a link's address names: a queue, its dead letters, the management of either, or the place for tokens."""

from dataclasses import dataclass
from urllib.parse import urlsplit

MANAGEMENT = "$management"
CBS = "$cbs"


@dataclass(frozen=True, slots=True)
class Address:
    """An address without its scheme and host. `entity` is empty for `$cbs`."""

    entity: str
    cbs: bool = False
    management: bool = False

    @classmethod
    def parse(cls, given: str | None) -> "Address":
        """Read `amqps://host/queue`, `queue/$management`, `$cbs` and the like; names are the same in any case."""
        text = given or ""
        path = (urlsplit(text).path if "://" in text else text).strip("/")
        if path.lower() == CBS:
            return cls("", cbs=True)
        entity, slash, last = path.rpartition("/")
        if slash and last.lower() == MANAGEMENT:
            return cls(entity, management=True)
        return cls(path)
