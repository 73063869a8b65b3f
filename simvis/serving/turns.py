"""One network and those who wait for it: who is served, who is given up, who is turned away."""

import asyncio
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor, wait

PAGES = 1024  # whose last questions are known


class Busy(Exception):
    """More work waits than may."""


class Superseded(Exception):
    """The page has asked something else since."""


class Turns:
    """Threads that work, and at most so many jobs that wait for them.

    A page's questions are numbered: with a newer one, what it asked before is given up, unless it
    is being worked on already.

    Examples
    --------
    >>> turns = Turns(waiting=2)
    >>> with ThreadPoolExecutor() as pool:  # in whose threads no loop is running yet
    ...     pool.submit(asyncio.run, turns.do(abs, -3, page="a", turn=7)).result()
    3
    """

    def __init__(self, waiting, threads=1):
        self._waiting, self._threads = waiting, threads
        self._pool = ThreadPoolExecutor(threads)
        self._jobs = {}  # of the future of a job that is not done to its page and turn
        self._turns = OrderedDict()  # of a page to its newest turn

    async def do(self, work, *given, page=None, turn=0):
        """Return ``work(*given)`` of a thread, in the order in which it was asked for.

        Raises `Superseded` if the page, a text, has asked something newer, and `Busy` if too much
        waits; without a page, nothing supersedes it.
        """
        if page is not None:
            self._note(page, turn)
        if len(self._jobs) >= self._waiting + self._threads:
            raise Busy
        job = self._pool.submit(work, *given)
        self._jobs[job] = page, turn
        job.add_done_callback(lambda done: self._jobs.pop(done, None))
        try:
            return await asyncio.wrap_future(job)
        except asyncio.CancelledError:
            if page is not None and self._turns.get(page, turn) > turn:
                raise Superseded from None
            raise
        finally:
            job.cancel()  # if it is the one who waits for it that has gone

    def _note(self, page, turn):
        """Give up what a page has asked before this turn."""
        if turn < self._turns.get(page, turn):
            raise Superseded
        self._turns[page] = turn
        self._turns.move_to_end(page)
        if len(self._turns) > PAGES:
            self._turns.popitem(last=False)
        for job, (its_page, its_turn) in list(self._jobs.items()):
            if its_page == page and its_turn < turn:
                job.cancel()  # which frees its place at once

    def end(self, seconds):
        """Drop what waits; return whether what is being worked on is done within so long."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        return not wait(list(self._jobs), seconds).not_done
