"""A program that is interrupted while it imports ends in one line; this module costs no time."""

import os
import signal


def end_in_one_line(program):
    """Let an interruption end the process at once, with one line and status 130."""

    def end(*_):
        os.write(2, f"{program}: interrupted\n".encode())
        os._exit(130)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end)


def raise_again():
    """Let an interruption raise a KeyboardInterrupt again, unless the shell has it ignored."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
