"""Runs a program of examples/python, with a fault: fault.py FILE SECONDS STEP:SIGNAL ARGUMENT...

The process signals itself the first time it is at the step; SECONDS is a client's timeout."""
import os
import signal
import sys
import threading

sys.dont_write_bytecode = True
file, seconds, fault, *arguments = sys.argv[1:]
sys.path.insert(0, os.path.dirname(file))
step, _, name = fault.partition(":")


def at(reached):
    global step
    if reached == step:
        step = None
        signal.pthread_kill(threading.get_ident(), getattr(signal, name))


if os.path.basename(file) == "backend.py":
    import backend

    backend.at = at
    backend.main(*arguments)
else:
    import client

    client.TIMEOUT = float(seconds)
    client.run(arguments)
