"""Frames, and the protobuf fields in them: docs/protocol.md, "Framing" and "Envelope"."""
import os
import socket
import struct

REQUEST, RESPONSE, EVENT = 0, 1, 2
CONTROL, HANDOFF, CHANNEL, REGISTRATION = 0x0000, 0xD0FF, 0xF001, 0xF002


class Fault(Exception):
    """The peer does not keep to the protocol."""


def varint(n):
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes(out + bytes([n]))


def message(fields):
    """Encodes {number: int, str or bytes}: ascending, defaults left out."""
    out = b""
    for number, value in sorted(fields.items()):
        if isinstance(value, int):
            out += varint(number << 3) + varint(value) if value else b""
        elif value:
            value = value.encode() if isinstance(value, str) else value
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


class Message(dict):
    """{number: int or bytes} of an encoded message; the last value of a field wins."""

    def __init__(self, data):
        super().__init__()
        self.data, self.at = data, 0
        while self.at < len(data):
            key = self.varint()
            kind = key & 7
            if kind == 0:
                self[key >> 3] = self.varint()
            elif kind == 2:
                self[key >> 3] = self.take(self.varint())
            else:  # fixed64, fixed32: in no message of ours, so skipped
                self.take({1: 8, 5: 4}.get(kind) or len(data) + 1)

    def take(self, n):
        if n > len(self.data) - self.at:
            raise Fault("message cut short")
        self.at += n
        return self.data[self.at - n : self.at]

    def varint(self):
        n = 0
        for shift in range(0, 70, 7):
            b = self.take(1)[0]
            n |= (b & 0x7F) << shift
            if b < 0x80:
                return n & (1 << 64) - 1
        raise Fault("number too long")


def frame(kind, protocol, payload, request_id=0):
    body = message({1: 1, 2: kind, 3: protocol, 4: payload, 5: request_id})
    return struct.pack("<BI", 1, len(body)) + body


def read_frame(conn):
    """Reads one frame from a stream, and not a byte behind it."""
    version, length = struct.unpack("<BI", read_exactly(conn, 5))
    if version != 1 or length > 1 << 20:
        raise Fault("no frame")
    return Message(read_exactly(conn, length))


def read_exactly(conn, n):
    data = b""
    while len(data) < n:
        more = conn.recv(n - len(data))
        if not more:
            raise EOFError("the connection has ended")
        data += more
    return data


def payload(envelope, kind, protocol):
    """The message in a frame that must be of that kind and protocol."""
    if (envelope.get(1), envelope.get(2, 0), envelope.get(3, 0), envelope.get(6, 0)) != (1, kind, protocol, 0):
        raise Fault("a frame of another kind")
    return Message(envelope.get(4, b""))


def dial(path, timeout):
    """Connects to a Unix socket that this user serves."""
    conn = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        conn.settimeout(timeout)
        conn.connect(path)
        check_user(conn)
    except BaseException:
        conn.close()
        raise
    return conn


def check_user(conn):
    _, uid, _ = struct.unpack("3i", conn.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if uid != os.geteuid():
        raise PermissionError("another user is at the other end")
