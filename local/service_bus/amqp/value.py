"""One AMQP value as bytes, and back: Proton's codec, which knows more types than it says."""

from collections.abc import Iterable
from typing import Any

from proton import UNDESCRIBED, Array, Data, Described, ulong


def decode(encoded: bytes) -> Any:  # noqa: ANN401 - whatever a peer has sent
    """The first value in some bytes, as Proton's Python types."""
    data = Data()
    data.decode(encoded)
    data.rewind()
    data.next()
    return _owned(data.get_object())


def _owned(value: Any) -> Any:  # noqa: ANN401
    """The same without views of Proton's memory, which does not outlive the codec."""
    if isinstance(value, memoryview):
        return bytes(value)
    if isinstance(value, Described):
        return Described(value.descriptor, _owned(value.value))
    if isinstance(value, list):
        return [_owned(one) for one in value]
    if isinstance(value, dict):
        return {key: _owned(one) for key, one in value.items()}
    return value


def described(descriptor: int, value: Any) -> bytes:  # noqa: ANN401 - whatever a peer shall have
    """A value with its descriptor."""
    data = Data()
    data.put_object(Described(ulong(descriptor), value))
    return bytes(data.encode())


def array(kind: int, values: Iterable[Any]) -> Array:
    """An array of one of Proton's types, such as `Data.LONG`."""
    undescribed: Any = UNDESCRIBED
    return Array(undescribed, kind, *values)
