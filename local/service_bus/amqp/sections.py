"""The sections of an encoded message, found without decoding what is in them.

http://docs.oasis-open.org/amqp/core/v1.0/os/amqp-core-messaging-v1.0-os.html#section-message-format
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from proton import DataException

from local.service_bus.amqp.value import decode
from local.service_bus.errors import MalformedError

_DESCRIBED = 0x00
_SMALL_ULONG, _ULONG = 0x53, 0x80
_ONE_BYTE_SIZES = {0xA, 0xC, 0xE}
_FOUR_BYTE_SIZES = {0xB, 0xD, 0xF}
_FIXED_SIZES = {0x4: 0, 0x5: 1, 0x6: 2, 0x7: 4, 0x8: 8, 0x9: 16}


class Section(IntEnum):
    """The descriptors of the sections."""

    HEADER = 0x70
    DELIVERY_ANNOTATIONS = 0x71
    MESSAGE_ANNOTATIONS = 0x72
    PROPERTIES = 0x73
    APPLICATION_PROPERTIES = 0x74
    DATA = 0x75
    SEQUENCE = 0x76
    VALUE = 0x77
    FOOTER = 0x78


_BODY = frozenset({Section.DATA, Section.SEQUENCE, Section.VALUE})


@dataclass(frozen=True, slots=True)
class Part:
    """One section, with its descriptor."""

    section: Section
    encoded: bytes

    def decode(self) -> object:
        """What is in it, as Proton's Python types. Raises MalformedError."""
        try:
            content: object = decode(self.encoded).value
        except (DataException, AttributeError) as error:
            raise MalformedError(f"The section {self.section.name} cannot be read.") from error
        return content


def split(encoded: bytes) -> list[Part]:
    """The sections of a message, in order. Raises MalformedError where it is not one."""
    try:
        return list(_parts(encoded))
    except (IndexError, ValueError, KeyError) as error:
        raise MalformedError("The message is not an AMQP 1.0 message.") from error


def batch(parts: list[Part]) -> list[bytes]:
    """The messages in a batch: data sections each of which is a message; none where it is no batch.

    The transfer's message format says so on the wire, but Proton does not hand it out. Raises MalformedError.
    """
    inner = [part.decode() for part in parts if part.section is Section.DATA]
    messages = [one for one in inner if isinstance(one, bytes) and _is_message(one)]
    return messages if len(messages) == len(inner) else []


def _is_message(encoded: bytes) -> bool:
    try:
        return any(part.section in _BODY for part in split(encoded))
    except MalformedError:
        return False


def _parts(encoded: bytes) -> Iterator[Part]:
    at = 0
    while at < len(encoded):
        descriptor, value = _descriptor(encoded, at)
        end = _end(encoded, value)
        yield Part(Section(descriptor), encoded[at:end])
        at = end


def _descriptor(encoded: bytes, at: int) -> tuple[int, int]:
    """A section's number, and where its value begins."""
    if encoded[at] != _DESCRIBED:
        raise ValueError(at)
    if encoded[at + 1] == _SMALL_ULONG:
        return encoded[at + 2], at + 3
    if encoded[at + 1] == _ULONG:
        return int.from_bytes(encoded[at + 2 : at + 10]), at + 10
    raise ValueError(at)


def _end(encoded: bytes, at: int) -> int:
    """Where the value that begins here ends."""
    kind = encoded[at] >> 4
    if kind in _ONE_BYTE_SIZES:
        end = at + 2 + encoded[at + 1]
    elif kind in _FOUR_BYTE_SIZES:
        end = at + 5 + int.from_bytes(encoded[at + 1 : at + 5])
    else:
        end = at + 1 + _FIXED_SIZES[kind]
    if end > len(encoded):
        raise ValueError(at)
    return end
