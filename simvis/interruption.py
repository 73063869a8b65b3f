"""A program that is interrupted, or fails, while it imports ends in one line, without delay."""

import os
import signal
import sys


def end_in_one_line(program):
    """Let an interruption or a failed import end the process at once, with one line."""

    def end(*_):
        tell("interrupted", 130)

    def fail(kind, error, trace):
        if not issubclass(kind, (ImportError, MemoryError, OSError)):
            sys.__excepthook__(kind, error, trace)
            return
        reason = " ".join(str(error).split())[-200:]  # numpy's begins with much advice
        if not reason or "failed to map" in reason:
            reason = "there is not enough memory for it"
        tell(f"error: it cannot start: {reason}", 2)

    def tell(words, status):
        try:
            os.write(2, f"{program}: {words}\n".encode())
        finally:  # stderr may be closed
            os._exit(status)

    sys.excepthook = fail
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end)


def raise_again():
    """Let what ends a program be raised again, unless the shell has interruptions ignored."""
    sys.excepthook = sys.__excepthook__
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
