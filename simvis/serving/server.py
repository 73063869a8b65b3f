"""The server of a gallery's page: who may ask it, how much, and how it ends."""

import asyncio
import ipaddress
import json
import os
import secrets
import signal
import socket
import sys
import threading
import webbrowser
from contextlib import asynccontextmanager
from urllib.parse import unquote, urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from threadpoolctl import threadpool_limits

from simvis.files import one_line
from simvis.pages.explorer import COLORMAPS
from simvis.pages.page import colormaps, fill_page, policy, template
from simvis.serving.desk import LARGE, SMALL, Desk, Gone
from simvis.serving.questions import LONGEST, TOP, read_question, whole
from simvis.serving.report import make_report
from simvis.serving.turns import Busy, Superseded, Turns

LARGEST = 2**26  # bytes of a photograph
UPLOADS = 4  # photographs that are received at once
SLOWEST = 60  # seconds that sending one may take
WAITING, PICTURES = 32, 256  # jobs that wait for the network, and pictures that wait to be made
CONNECTIONS = 512
HEADERS = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",  # of all but the page
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
BUSY = "the network is busy with the questions of others, this one was not taken: ask again"


def make_server(gallery, host="127.0.0.1", port=0, options=(), tell=None):
    """Return what serves a gallery, and its address.

    Parameters
    ----------
    gallery : Gallery, which must be there
    host : str, this machine's name or address that it listens to
    port : int, 0 for a free one
    options : sequence of str, of the gallery's network, as they are typed at the shell
    tell : None or function of nothing, called when it is ready

    Returns
    -------
    service : Service
        Its ``run()`` serves until the process is interrupted, or ``end()`` is called.
    address : str, with the token that opens the page

    Raises
    ------
    ValueError, OSError
        If the port is taken, or for what is wrong with the gallery.
    """
    return (service := Service(gallery, host, port, list(options), tell)), service.address


class Service:
    """A gallery's page on an address of this machine."""

    def __init__(self, gallery, host, port, options, tell):
        self.host, self.options, self.tell = host, options, tell
        self.socket = _listen(host, port)
        self.port, self.token = self.socket.getsockname()[1], secrets.token_urlsafe(24)
        name = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)
        name = f"[{name}]" if ":" in name else name
        self.address = f"http://{name}:{self.port}/?token={self.token}"
        self.desk = Desk(gallery)
        self.network, self.others = Turns(WAITING), Turns(PICTURES, threads=2)
        self.uploads, self.uploading = 0, asyncio.Semaphore(UPLOADS)
        self.cookie = f"simvis-{self.port}"  # cookies do not tell ports apart
        self.page, explorer = template("search.html"), template("explorer.html")
        rules = policy(self.page, explorer, images="'self' data:")
        self.policy = f"{rules}; connect-src 'self'; frame-ancestors 'none'"
        self.fixed = {"colormaps": colormaps(COLORMAPS), "most": LARGEST, "top": TOP}
        # the page makes an explorer in a frame of what stands before and after a pair's data
        self.fixed["explorer"] = explorer.replace("{{policy}}", policy(explorer)).split("{{data}}")
        config = uvicorn.Config(
            _Guard(self, self._routes()),
            **{"log_config": None, "access_log": False, "proxy_headers": False},
            **{"http": "h11", "ws": "none", "loop": "asyncio", "lifespan": "on"},
            **{"server_header": False, "limit_concurrency": CONNECTIONS},
            timeout_graceful_shutdown=0.3,
        )
        self.server = uvicorn.Server(config)

    def run(self):
        """Serve, until Ctrl-C or SIGTERM, which raise KeyboardInterrupt and SystemExit."""
        in_main = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGTERM, _terminate) if in_main else None
        try:
            with threadpool_limits(1, "blas"):  # whose threads would spin on the network's cores
                self.server.run(sockets=[self.socket])
        finally:
            if in_main:
                signal.signal(signal.SIGTERM, before)

    def end(self):
        """Let ``run()``, in another thread, come to its end."""
        self.server.should_exit = True

    def rest(self, seconds):
        """Drop what waits; return whether all that is worked on is done within so long."""
        return all([turns.end(seconds / 2) for turns in (self.network, self.others)])

    def _routes(self):
        @asynccontextmanager
        async def lifespan(_):
            if self.tell:
                self.tell()
            yield

        routes = [
            Route("/", self.open_page),
            Route("/pictures", self.list_pictures),
            Route("/picture/{row:int}", self.send_picture),
            Route("/photo", self.take_photo, methods=["POST"]),
            Route("/photo/{photo}", self.send_photo),
            Route("/search", self.search, methods=["POST"]),
            Route("/map", self.make_map, methods=["POST"]),
            Route("/explore", self.explore, methods=["POST"]),
            Route("/report", self.report, methods=["POST"]),
        ]
        failures = {each: _refuse for each in STATUS}
        return Starlette(routes=routes, exception_handlers=failures, lifespan=lifespan)

    # --- what the page asks ----------------------------------------------------------------------

    async def open_page(self, request):
        data = self.fixed | await self.others.do(self.desk.about)
        content = fill_page(self.page, self.policy, data)
        headers = {"content-security-policy": self.policy}
        return Response(content, media_type="text/html; charset=utf-8", headers=headers)

    async def list_pictures(self, request):
        asked = request.query_params
        page = asked.get("page", "0")
        if not (page.isdecimal() and len(page) < 10):
            raise ValueError(f"page: expected a whole number, got {page[:40]!r}")
        page = int(page)
        return JSONResponse(await self.others.do(self.desk.list, asked.get("text", "")[:500], page))

    async def send_picture(self, request):
        longest = LARGE if "large" in request.query_params else SMALL
        picture = await self.others.do(self.desk.picture, request.path_params["row"], longest)
        return Response(picture, media_type="image/jpeg")

    async def send_photo(self, request):
        picture = await self.others.do(self.desk.photo, request.path_params["photo"])
        return Response(picture, media_type="image/jpeg")

    async def take_photo(self, request):
        if self.uploads >= UPLOADS + WAITING:
            raise Busy
        self.uploads += 1
        try:
            async with self.uploading:
                data = await _body(request, LARGEST)
        finally:
            self.uploads -= 1
        name = unquote(request.headers.get("x-name", ""))[:200] or "the photograph"
        return JSONResponse(await self.network.do(self.desk.take, data, name))

    async def search(self, request):
        question, asked = await _question(request)
        return JSONResponse(await self.network.do(self.desk.rank, question, **_turn(asked)))

    async def make_map(self, request):
        question, asked = await _question(request)
        given = question, whole(asked.get("hit"), "hit")
        await self.others.do(self.desk.fetch, given[1])  # while the network is at another one
        return JSONResponse(await self.network.do(self.desk.explain, *given, **_turn(asked)))

    async def explore(self, request):
        question, asked = await _question(request)
        given = question, whole(asked.get("hit"), "hit")
        return JSONResponse(await self.network.do(self.desk.explore, *given))

    async def report(self, request):
        question, _ = await _question(request)
        found = await self.network.do(self.desk.rank, question)
        hits = []
        for each in found["hits"]:  # others have their turns between them
            answer, hit = await self.network.do(self.desk.hit, question, each["row"])
            hits.append(hit)
        given = self.desk.result(answer, hits), question, answer, self.desk.gallery, self.options
        file = await self.others.do(make_report, *given)
        headers = {"content-disposition": 'attachment; filename="search_report.zip"'}
        return Response(file, media_type="application/zip", headers=headers)


class _Guard:
    """Lets in who names this machine, comes from this page, and has the token."""

    def __init__(self, service, app):
        self.service, self.app = service, app

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_safely(message):
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = self.refusal(Request(scope)) or self.app
        await answer(scope, receive, send_safely)

    def refusal(self, request):
        """Return None to who may ask, or the answer to who may not, or not yet."""
        service, host = self.service, request.headers.get("host", "")
        if not _is_here(host, service.host):
            return PlainTextResponse("this is not the server of that name\n", 421)
        origin = request.headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            return PlainTextResponse("other pages may not ask here\n", 403)
        given = request.query_params.get("token")
        if request.method == "GET" and request.url.path == "/" and given is not None:
            if not _same(given, service.token):
                return PlainTextResponse(CLOSED_DOOR, 403)
            answer = RedirectResponse("/", 303)
            answer.set_cookie(service.cookie, given, httponly=True, samesite="strict")
            return answer
        if not _same(request.cookies.get(service.cookie, ""), service.token):
            return PlainTextResponse(CLOSED_DOOR, 403)
        return None


CLOSED_DOOR = "open the address that the program has printed, with its token\n"
STATUS = {Busy: 503, Superseded: 409, Gone: 410, ValueError: 400, OSError: 400, MemoryError: 400}
WORDS = {Busy: BUSY, Superseded: "something newer was asked"}


async def _refuse(request, error):
    """Return an error as the page shows it."""
    kind = next(each for each in STATUS if isinstance(error, each))
    return JSONResponse({"error": WORDS.get(kind) or one_line(error)}, STATUS[kind])


def _is_here(host, own):
    """Return whether a Host header names this machine: a stranger's name may lead here, too."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name in ("localhost", own.lower()):
        return True
    local = own in ("127.0.0.1", "::1", "localhost")
    try:
        return ipaddress.ip_address(name).is_loopback or not local
    except ValueError:
        return not local and name == socket.gethostname().lower()


def _same(given, token):
    return secrets.compare_digest(given.encode("utf-8", "replace"), token.encode())


def _turn(asked):
    """Return which page asks, and the number of its question."""
    page, turn = asked.get("client"), asked.get("turn", 0)
    if page is not None and not (isinstance(page, str) and len(page) <= 64):
        raise ValueError("client: expected a short text")
    return {"page": page, "turn": whole(turn, "turn")}


async def _question(request):
    """Return the question in a request, and all that it holds."""
    try:
        asked = json.loads(await _body(request, LONGEST))
    except (UnicodeDecodeError, RecursionError, json.JSONDecodeError):
        raise ValueError("the question is no JSON") from None
    if not isinstance(asked, dict):
        raise ValueError("the question is no object")
    return read_question(asked), asked


async def _body(request, most):
    """Return what a request sends, in memory, or raise a ValueError if it is too much."""
    words = f"it has over {most:,} bytes, the limit"
    if int(request.headers.get("content-length", "0")) > most:
        raise ValueError(words)

    async def receive():
        parts, size = [], 0
        async for part in request.stream():
            parts.append(part)
            if (size := size + len(part)) > most:
                raise ValueError(words)
        return b"".join(parts)

    try:
        return await asyncio.wait_for(receive(), SLOWEST)
    except asyncio.TimeoutError:
        raise ValueError(f"it took over {SLOWEST} seconds to send") from None
    except ClientDisconnect:
        raise ValueError("it was not sent to its end") from None


def _listen(host, port):
    """Return a socket that listens, on this machine's address of a name, or raise a ValueError."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise ValueError(f"host: {host} is no name or address of this machine") from None
    # of a socket that says that it is TCP's, asyncio sends each answer without waiting for an ACK
    listening = socket.socket(family, proto=socket.IPPROTO_TCP)
    if os.name == "posix":
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(address)
        listening.listen(CONNECTIONS)
    except OSError as error:
        listening.close()
        free = ", --port 0 takes a free one (port=0)" if port else ""
        raise ValueError(f"port: {host}:{port}: {error.strerror}{free}") from None
    return listening


def open_browser(address):
    """Open an address in the user's browser, if there is a screen to see it on."""
    if sys.platform in ("win32", "darwin") or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()


def _terminate(*_):
    raise SystemExit(143)
