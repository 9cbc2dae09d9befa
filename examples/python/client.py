"""A client: sends each LINE to a service that answers lines, and prints the answers.

    python3 client.py [--late] SERVICE VERSION LINE...

The first line goes along with the question for the service; with --late only after its
answer. The exit code says what is known of the last line: 0 answered, 2 nobody has read
it, 3 it may have run."""
import os
import sys
import time

from wire import CONTROL, EVENT, HANDOFF, REQUEST, RESPONSE, Fault, Message, dial, frame, message, payload, read_frame

HANDLE_PASSING, USHER = 1 << 0, 1 << 40  # capability bits
TIMEOUT = 10.0  # seconds for one step
RETRIED = 3, 4, 5, 9  # refusals that pass: SPAWN_FAILED, RATE_LIMITED, SHUTTING_DOWN, FD_PRESSURE


class NotRun(Exception):
    """Nobody has read the request. It may be sent again after so many seconds, if not None."""

    retry_after = 0.0


class Unknown(Exception):
    """The request may have run, and must not be sent again."""


def connect(service, version, early=b""):
    """A connection to the service. early, at most 16 KiB, is the first request, if there is
    one already: the next bytes on the connection are then its answer."""
    try:
        conn = dial(os.environ["RUNNING_PROCESS_BROKER_V1_SOCKET"], TIMEOUT)
    except OSError as e:
        raise NotRun(f"no broker: {e}") from e
    hello = message({1: 1, 2: 1, 3: service, 4: version, 6: USHER if early else USHER | HANDLE_PASSING,
                     8: "hello", 11: "usher-python", 100: len(early)})
    try:
        try:
            conn.sendall(frame(REQUEST, CONTROL, hello, 1) + early)
        except (BrokenPipeError, ConnectionResetError):
            pass  # who refuses may not read everything: the answer is there all the same
        reply = payload(read_frame(conn), RESPONSE, CONTROL)
        if 2 in reply:
            raise refusal(Message(reply[2]))
        granted = Message(reply[1])
        if granted.get(7):  # a token: a backend takes this very connection, and says so
            ready = payload(read_frame(conn), EVENT, HANDOFF)
            if (ready.get(1), ready.get(2)) != (granted[7], 1):
                raise Fault("the end of another handoff")
            return conn
    except NotRun:
        conn.close()
        raise
    except (OSError, EOFError, Fault, KeyError, TypeError) as e:
        conn.close()
        raise (Unknown if early else NotRun)(f"no verdict: {e!r}") from e
    conn.close()  # without a token nobody has read early: it goes to the backend's own socket
    try:
        conn = dial(granted[3], TIMEOUT)
    except (OSError, KeyError, TypeError) as e:
        raise NotRun(f"no backend: {e!r}") from e
    try:
        conn.sendall(early)
    except OSError as e:
        conn.close()
        raise Unknown(f"sent in part: {e}") from e
    return conn


def refusal(refused):
    e = NotRun("refused: " + refused.get(1, b"").decode(errors="replace"))
    e.retry_after = refused.get(6, 0) / 1000 if refused.get(4) in RETRIED else None
    return e


def retrying(call, *args):
    """Calls again what nobody has read, twice at most."""
    for last in False, False, True:
        try:
            return call(*args)
        except NotRun as e:
            if last or e.retry_after is None:
                raise
            time.sleep(max(e.retry_after, 0.05))


def send(conn, request):
    try:
        conn.sendall(request)
    except OSError as e:
        raise NotRun(f"the connection has ended before: {e}") from e


def answer(conn):
    try:
        line = conn.makefile("rb").readline()
    except OSError as e:
        raise Unknown(f"no answer: {e}") from e
    if not line.endswith(b"\n"):
        raise Unknown("the connection has ended before the answer")
    return line.decode()


def main(service, version, *lines, late=False):
    first, *rest = (line.encode() + b"\n" for line in lines)
    conn = retrying(connect, service, version, b"" if late else first)
    with conn:
        if late:
            send(conn, first)
        print(answer(conn), end="")
        for request in rest:
            send(conn, request)
            print(answer(conn), end="")


def run(arguments):
    try:
        main(*(a for a in arguments if a != "--late"), late="--late" in arguments)
    except NotRun as e:
        print("not run:", e, file=sys.stderr)
        sys.exit(2)
    except Unknown as e:
        print("unknown:", e, file=sys.stderr)
        sys.exit(3)


if __name__ == "__main__":
    run(sys.argv[1:])
