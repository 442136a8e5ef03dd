"""The SASL layer before AMQP, as far as Service Bus needs it: ANONYMOUS, and PLAIN with any name and password.

What counts is the token that is put later. Proton's own server side knows no PLAIN without another library.
http://docs.oasis-open.org/amqp/core/v1.0/os/amqp-core-security-v1.0-os.html#section-sasl
"""

import struct
from dataclasses import dataclass, field

from proton import Data, symbol, ubyte

from local.service_bus.amqp.value import array, decode, described

_HEADER = b"AMQP\x03\x01\x00\x00"
_MECHANISMS, _INIT, _OUTCOME = 0x40, 0x41, 0x44
_OK, _AUTHENTICATION_FAILED = 0, 1
_KNOWN = ("ANONYMOUS", "PLAIN")
_FRAME = struct.Struct(">IBBH")
_SASL_FRAME = 1


@dataclass(slots=True)
class Sasl:
    """One server's side of the handshake. Bytes go in, and what comes out is to be sent."""

    done: bool = False
    failed: bool = False
    mechanism: str | None = None
    _received: bytearray = field(default_factory=bytearray)
    _greeted: bool = False

    def feed(self, received: bytes) -> tuple[bytes, bytes]:
        """Take bytes. Returns what to answer, and what already belongs to the layer after this one."""
        self._received += received
        answer = b""
        if not self._greeted and len(self._received) >= len(_HEADER):
            if self._received[: len(_HEADER)] != _HEADER:  # a client without SASL
                self.done = True
                return b"", bytes(self._received)
            self._greeted = True
            del self._received[: len(_HEADER)]
            answer += _HEADER + _frame(_MECHANISMS, [array(Data.SYMBOL, map(symbol, _KNOWN))])
        if self._greeted and not self.done:
            answer += self._read_init()
        return answer, bytes(self._received) if self.done else b""

    def _read_init(self) -> bytes:
        size = _FRAME.unpack_from(self._received)[0] if len(self._received) >= _FRAME.size else None
        if size is None or len(self._received) < size:
            return b""
        frame = bytes(self._received[:size])
        del self._received[:size]
        init = decode(frame[frame[4] * 4 :])
        self.mechanism = str(init.value[0]) if int(init.descriptor) == _INIT else None
        self.done, self.failed = True, self.mechanism not in _KNOWN
        return _frame(_OUTCOME, [ubyte(_AUTHENTICATION_FAILED if self.failed else _OK)])


def _frame(descriptor: int, fields: list[object]) -> bytes:
    body = described(descriptor, fields)
    return _FRAME.pack(_FRAME.size + len(body), 2, _SASL_FRAME, 0) + body
