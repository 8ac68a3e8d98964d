"""A test's server that is busy is asked again, and nothing is made twice."""

import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx2 as httpx
import pytest

from tests import asking


class Busy(ThreadingHTTPServer):
    """Answers the first request late or with a 503, and all later ones at once."""

    def __init__(self, first: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.first = first
        self.num_asked = 0
        self.address = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Busy

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.num_asked += 1
        is_first = self.server.num_asked == 1
        if is_first and self.server.first == "late":
            time.sleep(0.5)
        self.send_response(503 if is_first and self.server.first == "busy" else 200)
        self.end_headers()
        self.wfile.write(json.dumps({"asked": self.server.num_asked}).encode())

    do_POST = do_GET  # noqa: N815 - http.server names it

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture(params=["late", "busy"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Busy]:
    monkeypatch.setattr(asking, "SECONDS_FOR_AN_ANSWER", 0.2)
    with Busy(request.param) as found:
        Thread(target=found.serve_forever, daemon=True).start()
        yield found
        found.shutdown()


def test_who_asks_is_patient(server: Busy) -> None:
    assert asking.get(f"{server.address}/flow_runs/1")["asked"] == 2


def test_a_filter_asks_only(server: Busy) -> None:
    assert asking.post(f"{server.address}/flow_runs/filter", {})["asked"] == 2


def test_what_may_have_been_made_is_not_made_again(server: Busy) -> None:
    if server.first == "late":
        with pytest.raises(httpx.ReadTimeout):
            asking.post(f"{server.address}/flows", {})
        assert server.num_asked == 1
    else:  # it was refused
        assert asking.post(f"{server.address}/flows", {})["asked"] == 2
