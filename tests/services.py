"""A gallery that is served, for tests, and a client of it that may be as rude as it likes."""

import contextlib
import http.client
import json
import threading

from simvis.serving.server import make_server


@contextlib.contextmanager
def served(gallery, **options):
    """Serve a gallery in a thread until the end of the block; yields its `server.Service`."""
    ready = threading.Event()
    service, _ = make_server(gallery, tell=ready.set, **options)
    thread = threading.Thread(target=service.run)
    thread.start()
    try:
        assert ready.wait(60)
        yield service
    finally:
        service.end()
        thread.join()
        assert service.rest(60)


class Client:
    """One page of a service, without a browser."""

    def __init__(self, service, name="test"):
        self.service, self.name, self.turn = service, name, 0

    def ask(self, method, path, body=None, **headers):
        """Return the status, the headers and the bytes that come back.

        A header of None is left off; in a name, underscores stand for hyphens.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=60)
        given = {"host": f"127.0.0.1:{self.service.port}", "cookie": self.cookie}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            if body is not None and "transfer-encoding" not in given:
                given.setdefault("content-length", str(len(body)))
            for name, value in given.items():
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    @property
    def cookie(self):
        return f"{self.service.cookie}={self.service.token}"

    def get(self, path):
        """Return what an address answers with, of JSON or bytes."""
        status, headers, body = self.ask("GET", path)
        assert status == 200, body
        return json.loads(body) if "json" in headers["content-type"] else body

    def post(self, path, question, status=200):
        """Return the JSON, or the bytes, that answer a question."""
        got, headers, body = self.ask("POST", path, json.dumps(question).encode())
        assert got == status, (got, body[:300])
        return json.loads(body) if "json" in headers["content-type"] else body

    def send(self, data, status=200):
        got, _, body = self.ask("POST", "/photo", data)
        assert got == status, (got, body[:300])
        return json.loads(body)

    def search(self, question, status=200):
        """Search as a page does, which has given up what it asked before."""
        self.turn += 1
        question = {"client": self.name, "turn": self.turn, **question}
        return self.post("/search", question, status)

    def rows(self):
        """Return the rows of the gallery's first pictures, by their paths."""
        return {each["path"]: each["row"] for each in self.get("/pictures")["pictures"]}
