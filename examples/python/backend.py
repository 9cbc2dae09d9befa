"""A backend: answers each line with "LINE done", and says on standard error what it was asked.

    python3 backend.py [--eventfd] SERVICE VERSION PIPE
    python3 backend.py                                       (started by the broker)

PIPE is its own socket, which clients reach where a handoff is not possible. Claims are
words of a page where Python finds libatomic, else descriptors; with --eventfd always."""
import array
import ctypes
import fcntl
import mmap
import os
import re
import signal
import socket
import stat
import sys
import threading
import time

from wire import (CHANNEL, CONTROL, EVENT, REGISTRATION, REQUEST, RESPONSE, Fault, Message,
                  check_user, dial, frame, message, payload)

REJECTED, DESCRIPTORS, CLAIM_LOST, BUSY, UNSUPPORTED = 1, 2, 3, 4, 6
READY, IDLE, DRAIN, ACTIVE = 1, 2, 3, 4  # notes
MOST = 512  # connections at a time


def at(step):
    """Between two steps; tests stop the process here."""


class Nack(Exception):
    """(reason, text): the connection is not ours, and goes back unread."""


class Page:
    """Memory shared with the broker: 512 words, each generation * 4 + state."""

    UNTAKEN, TAKEN, ACKED = 0, 1, 2

    def __init__(self, fd):
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & seals != seals or os.fstat(fd).st_size != 4096:
            raise Fault("a page that could be taken away")
        self.words = (ctypes.c_uint64 * 512).from_buffer(mmap.mmap(fd, 4096))

    def swap(self, word, generation, old, new):
        """Writes new in place of old, in one step that no other process can split."""
        at = ctypes.addressof(self.words) + 8 * word
        expected = ctypes.c_uint64(generation * 4 + old)
        return swap(at, ctypes.byref(expected), generation * 4 + new, 5, 5)  # sequentially consistent


try:
    swap = getattr(ctypes.CDLL("libatomic.so.1"), "__atomic_compare_exchange_8")
    swap.argtypes = ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int, ctypes.c_int
    swap.restype = ctypes.c_bool
except (OSError, AttributeError):
    swap = None


class Backend:
    """Hands each connection to serve(conn, first), on a thread of its own: first is what
    the client sent along with its Hello, and has been read. The connection stays
    non-blocking, as Python's timeouts have it: its flags are the broker's too."""

    def __init__(self, service, version, pipe, serve, use_page=True, idle=None):
        self.service, self.version, self.pipe, self.serve = service, version, pipe, serve
        self.use_page, self.idle = use_page and swap is not None, idle  # idle: seconds, None for ever
        self.places = threading.BoundedSemaphore(MOST)
        self.changed = threading.Condition()
        self.open, self.changes, self.quiet = 0, 0, time.monotonic()
        self.draining = False

    def run(self, inherited=None):
        """Serves until the broker lets it go. inherited is the value of USHER_CHANNEL."""
        self.listen()
        channel, page = self.inherit(inherited) if inherited else (None, None)
        if channel:
            note(channel, {1: READY, 2: self.pipe})
        said = ""
        while not self.draining:  # a broker may come, go, and be replaced
            try:
                if not channel:
                    channel, page = self.register()
                said = ""
                with channel:
                    threading.Thread(target=self.tell, args=(channel,), daemon=True).start()
                    while self.receive(channel, page):
                        pass
                    if self.draining:
                        self.end()
            except (OSError, EOFError, Fault, TypeError) as e:
                if said != str(e):
                    said = str(e)
                    print("not registered:", said)
                if self.idle and not self.open and time.monotonic() - self.quiet > self.idle:
                    return
            channel = None
            self.count(0)  # tell looks, and ends
            time.sleep(0 if self.draining else 0.2)

    # The backend's own socket.

    def listen(self):
        if os.path.exists(self.pipe):
            os.unlink(self.pipe)  # in a directory that is ours alone
        self.listener = listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.pipe)
        self.inode = os.stat(self.pipe).st_ino
        os.chmod(self.pipe, 0o600)
        listener.listen(128)
        threading.Thread(target=self.accept, args=(listener,), daemon=True).start()

    def accept(self, listener):
        while True:
            self.places.acquire()
            try:
                conn, _ = listener.accept()
                conn.settimeout(3600)
                self.start(self.serve_own, conn)
            except OSError:  # no descriptor, perhaps
                self.places.release()
                if self.draining:
                    return  # and nobody is left in the queue
                time.sleep(0.01)

    def serve_own(self, conn):
        check_user(conn)
        self.serve(conn, b"")

    def end(self):
        """Serves who has come before, and returns when the last of them has gone."""
        try:
            if os.stat(self.pipe).st_ino == self.inode:  # else it is a successor's
                os.unlink(self.pipe)
        except FileNotFoundError:
            pass
        self.listener.shutdown(socket.SHUT_RDWR)
        for _ in range(MOST):
            self.places.acquire()

    # The channel.

    def inherit(self, numbers):
        """The channel that the broker has started this process with, and the page."""
        fds = [int(number) for number in numbers.split(",")]
        for fd in fds:
            os.set_inheritable(fd, False)
        if len(fds) > 1 and swap is None:
            raise Fault("whom the broker starts takes claims from a page: libatomic.so.1 is missing")
        channel, page = socket.socket(fileno=fds[0]), Page(fds[1]) if len(fds) > 1 else None
        close(fds[1:])
        return channel, page

    def tell(self, channel):
        """Tells the broker how many connections there are, a while after that has changed,
        and when there has been none for the idle time."""
        said = seen = 0
        while True:
            with self.changed:
                wait = self.idle if not self.open and not self.draining else None
                idle = not self.changed.wait_for(lambda: self.changes != seen or channel.fileno() < 0, wait)
                seen = self.changes
            if not idle and not self.draining:
                time.sleep(0.1)
            now = self.open
            if channel.fileno() < 0:
                return
            if idle or now != said:
                try:
                    note(channel, {1: IDLE} if idle else {1: ACTIVE, 3: now})
                except OSError:
                    return  # the channel has ended
            said = now

    def count(self, by):
        with self.changed:
            if by:
                self.open, self.changes, self.quiet = self.open + by, self.changes + 1, time.monotonic()
            self.changed.notify_all()

    def register(self):
        with dial(os.environ["RUNNING_PROCESS_BROKER_V1_SOCKET"], 2) as conn:
            conn.sendall(frame(REQUEST, REGISTRATION, message({
                1: self.service, 2: self.version, 3: self.pipe, 5: int(self.use_page), 6: 1}), 1))
            data, fds, _ = receive(conn, 4096)
        try:
            envelope = parse(data)
            if envelope.get(3, 0) == CONTROL:  # over its limits, or no usher
                reply = Message(payload(envelope, RESPONSE, CONTROL).get(2, b""))
                raise Fault(reply.get(1, b"").decode(errors="replace"))
            reply = payload(envelope, RESPONSE, REGISTRATION)
            if not reply.get(1) or len(fds) != (2 if reply.get(6) else 1):
                raise Fault(reply.get(2, b"").decode(errors="replace") or "no channel that this backend can use")
            page = Page(fds[1]) if reply.get(6) else None
            return socket.socket(fileno=fds.pop(0)), page
        finally:
            close(fds)

    def receive(self, channel, page):
        """Takes one message through the steps; false when the channel has ended."""
        channel.settimeout(None)
        data, fds, lost = receive(channel, 16384)
        if not data:
            return False
        at("received")
        token, offer_id, sound = b"", 0, False
        try:
            envelope = parse(data)
            sound = len(fds) <= 2
            if envelope.get(1) == 1 and (envelope.get(2, 0), envelope.get(3)) != (REQUEST, CHANNEL):
                if lets_go(envelope):
                    self.draining = True  # all offers came before
                    return False
                raise Nack(UNSUPPORTED, "a message that is not known")
            offer = payload(envelope, REQUEST, CHANNEL)
            token, offer_id = offer.get(1, b"")[:32], offer.get(2, 0)
            conn = self.adopt(offer, envelope.get(5, 0), fds, lost, page)
        except (Nack, Fault, OSError, TypeError) as e:  # the last: a number where bytes belong, or the reverse
            reason, text = e.args if isinstance(e, Nack) else (REJECTED, str(e))
            answer(channel, {1: token, 2: offer_id, 4: reason, 5: text})
            return sound  # nobody knows what follows a broken frame
        finally:
            close(fds)
        self.start(self.greet, conn, channel, page, offer)
        return True

    def adopt(self, offer, request_id, fds, lost, page):
        """Checks an offer and takes its claim: the connection is ours."""
        word, generation = offer.get(8, 0), offer.get(9, 0)
        if lost or len(fds) != (1 if generation else 2):
            raise Nack(DESCRIPTORS, f"{len(fds)} descriptors")
        if len(offer.get(1, b"")) != 16 or not offer.get(4) or offer.get(2) != request_id:
            raise Nack(REJECTED, "token, id or preamble")
        if generation and (page is None or word > 511):
            raise Nack(DESCRIPTORS, "no such word")
        conn = socket.socket(fileno=fds[0])
        del fds[0]
        try:
            check_connection(conn)
            if not self.places.acquire(blocking=False):
                raise Nack(BUSY, "too many connections")
            if not (page.swap(word, generation, Page.UNTAKEN, Page.TAKEN) if generation else take(fds[0])):
                self.places.release()
                raise Nack(CLAIM_LOST, "the broker took it back")
        except BaseException:
            conn.close()
            raise
        at("claimed")
        return conn

    def start(self, serve, conn, *args):
        def run():
            try:
                with conn:
                    serve(conn, *args)
            except (OSError, EOFError):
                pass  # the client has gone
            finally:
                self.count(-1)
                self.places.release()

        self.count(1)
        try:
            threading.Thread(target=run, daemon=True).start()
        except RuntimeError:  # no thread to be had: its client learns that the outcome is unknown
            conn.close()
            self.count(-1)
            self.places.release()

    def greet(self, conn, channel, page, offer):
        """Reads what came along with Hello, acknowledges, and only then writes."""
        first = b""
        if offer.get(5):
            conn.settimeout(1)
            first = conn.recv(offer[5])
            conn.settimeout(3600)
            at("read")
            if not first:
                return
        if not offer.get(9) or not page.swap(offer.get(8, 0), offer[9], Page.TAKEN, Page.ACKED):
            answer(channel, {1: offer[1], 2: offer[2], 3: 1})
        at("acked")
        conn.sendall(offer[4])
        at("replied")
        self.serve(conn, first)


def check_connection(conn):
    """A connected Unix stream of the same user; judged without reading it."""
    if (conn.family, conn.type) != (socket.AF_UNIX, socket.SOCK_STREAM) or conn.getsockopt(
            socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise Nack(DESCRIPTORS, "no connection")
    conn.getpeername()
    check_user(conn)
    conn.settimeout(3600)


def take(claim):
    """Takes the unit out of an eventfd, or the byte out of a pipe, which is empty behind it."""
    pipe = stat.S_ISFIFO(os.fstat(claim).st_mode)
    if not pipe and os.readlink(f"/proc/self/fd/{claim}") != "anon_inode:[eventfd]":
        raise Nack(DESCRIPTORS, "no claim")
    try:
        unit = os.read(claim, 8)
        return len(unit) == 1 if pipe else unit == (1).to_bytes(8, sys.byteorder)
    except BlockingIOError:
        return False


def receive(conn, size):
    """One message: data, descriptors, and whether any got lost. On a stream it is read to its
    end and not beyond, for what follows has descriptors of its own."""
    stream = conn.type == socket.SOCK_STREAM
    data, fds, lost = part(conn, 5 if stream else size)
    try:
        while stream and data and len(data) < length(data, size):
            more, late, _ = part(conn, length(data, size) - len(data))
            close(late)
            if late or not more:
                raise EOFError("the end, or a descriptor, inside a message")
            data += more
    except BaseException:
        close(fds)
        raise
    return data, fds, lost


def length(data, most):
    """Of the frame that data is the beginning of; of its header while that is not there, or
    where the frame is too long."""
    whole = 5 + int.from_bytes(data[1:5], "little") if len(data) >= 5 else 5
    return whole if whole <= most else 5


def part(conn, size):
    data, control, flags, _ = conn.recvmsg(size, socket.CMSG_SPACE(4 * 8), socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, content in control:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(content[: len(content) // 4 * 4])
    return data, list(fds), bool(flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC))


def close(fds):
    for fd in fds:
        os.close(fd)


def parse(data):
    if len(data) < 5 or data[0] != 1 or int.from_bytes(data[1:5], "little") != len(data) - 5:
        raise Fault("no frame")
    return Message(data[5:])


saying = threading.Lock()  # of a channel: on a stream two messages would mix


def say(channel, data):
    with saying:
        channel.sendall(data)


def answer(channel, ack):
    try:
        say(channel, frame(RESPONSE, CHANNEL, message(ack), ack[2]))
    except OSError:
        pass  # a broker that has gone needs none


def lets_go(envelope):
    try:
        return payload(envelope, EVENT, CHANNEL).get(1) == DRAIN
    except Fault:
        return False


def note(channel, fields):
    say(channel, frame(EVENT, CHANNEL, message(fields)))


def serve_lines(conn, first):
    while True:
        while b"\n" not in first:
            more = conn.recv(4096)
            if not more:
                return
            first += more
        line, first = first.split(b"\n", 1)
        os.write(2, line + b"\n")
        at("asked")
        conn.sendall(line + b" done\n")


def seconds(duration):
    """Of a duration such as 1h30m or 500ms; None where there is none."""
    units = {"h": 3600, "m": 60, "s": 1, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}
    return sum(float(n) * units[unit] for n, unit in re.findall(r"([0-9.]+)([hmsµn]+)", duration)) or None


def main(*arguments):
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    started, idle = os.environ.pop("USHER_CHANNEL", None), os.environ.pop("USHER_IDLE", "")
    if started:
        service, version = (os.environ["RUNNING_PROCESS_BROKER_V1_SERVICE_" + name] for name in ("NAME", "VERSION"))
        beside = os.path.dirname(os.environ["RUNNING_PROCESS_BROKER_V1_SOCKET"])
        arguments = service, version, f"{beside}/{service}-{os.getpid()}.sock"
    service, version, pipe = (a for a in arguments if a != "--eventfd")
    Backend(service, version, pipe, serve_lines, "--eventfd" not in arguments, seconds(idle)).run(started)


if __name__ == "__main__":
    main(*sys.argv[1:])
