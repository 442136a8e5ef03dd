"""Messages as senders hand them in: what no receiver could be given is refused at once."""

import pytest

from local.service_bus.amqp.encoding import submissions
from local.service_bus.errors import MalformedError

BODY = b"\x00\x53\x75\xa0\x01a"


@pytest.mark.parametrize(
    "broken",
    [
        b"\x00",
        b"\x00\x53\x99\x40",
        b"\x00\x53\x72\xd1\xff\xff\xff\xff\x00",
        b"\x00\x53\x74\xc1\x02\x03\x40",
        b"\x00\x53\x72\xc1\x02\x03\x40",
        b"\x00\x53\x73\xc0\x02\x03\x40",
        b"\x00\x53\x70\xc0\x04\x02\x41\xa1\x00",
        b"\x00\x53\x70\xc0\x07\x02\x41\x70\x00\x00\x01\x00",
        b"\x00\x53\x74\xa1\x01a",
    ],
    ids=[
        "cut",
        "no section",
        "too long",
        "properties cut",
        "annotations cut",
        "fields cut",
        "a priority in letters",
        "a priority of 256",
        "properties that are a text",
    ],
)
def test_a_message_that_is_none(broken: bytes) -> None:
    """S26: a message with a section that cannot be read is refused: in the queue it would stop whoever receives."""
    with pytest.raises(MalformedError):
        submissions(broken + BODY)


def test_a_batch_with_one_that_is_none() -> None:
    """A batch with such a message is refused as a whole."""
    inner = b"\x00\x53\x74\xc1\x02\x03\x40" + BODY
    with pytest.raises(MalformedError):
        submissions(b"".join(b"\x00\x53\x75\xa0" + bytes([len(one)]) + one for one in (BODY, inner)))
