"""S3 on loopback: moto in a process of its own, and a proxy before it that loses requests and answers."""

import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import boto3
from click.testing import CliRunner

from workflows.cli.main import cli

MOTO = """
import logging, threading
from moto.server import ThreadedMotoServer

logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
threading.Event().wait()
"""

BUSY = b"<Error><Code>SlowDown</Code></Error>"
DENIED = b"<Error><Code>AccessDenied</Code></Error>"


HOP = {"connection", "transfer-encoding", "content-length"}


@contextmanager
def moto() -> Iterator[int]:
    """The port of a server that is nobody else's; a process, as GDAL's requests would wait for this one's threads."""
    with subprocess.Popen([sys.executable, "-c", MOTO], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        yield int(server.stdout.readline())
        server.kill()


class Call(NamedTuple):
    """A request that came.

    Attributes:
        number: How many came before.
        method: Of HTTP.
        path: With its query.
        failed: How often the same one has gone wrong just before.
        at: When, in seconds.
    """

    number: int
    method: str
    path: str
    failed: int
    at: float


Fault = Callable[[Call], int | float | None]


def well(call: Call) -> None:
    """What becomes of a request that does not go wrong."""


class Proxy(ThreadingHTTPServer):
    """Hands requests on, but for those that go wrong.

    Args:
        port: Of the server behind it.
        fault: What becomes of a request: None, a status, or seconds of silence.
    """

    daemon_threads = True

    def __init__(self, port: int, fault: Fault = well) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind, self.fault = port, fault
        self.asked: list[Call] = []
        self._failed: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def note(self, method: str, path: str) -> int | float | None:
        """Keep a request, and say what becomes of it."""
        with self._lock:
            call = Call(len(self.asked), method, path, self._failed[method, path], time.monotonic())
            self.asked.append(call)
            fault = self.fault(call)
            self._failed[method, path] = 0 if fault is None else call.failed + 1
            return fault

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that did not wait is what is wanted."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Proxy

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.server.note(self.command, self.path)
        if isinstance(fault, float):
            time.sleep(fault)
            self.close_connection = True
        elif fault is not None:
            self._send(fault, {}, DENIED if fault == 403 else BUSY)
        else:
            self._send(*self._behind(body))

    def _behind(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = HTTPConnection("127.0.0.1", self.server.behind)
        connection.request(self.command, self.path, body or None, dict(self.headers))
        answer = connection.getresponse()
        found = answer.status, dict(answer.getheaders()), answer.read()
        connection.close()
        return found

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in HOP:
                self.send_header(name, value)
        length = headers.get("Content-Length") if self.command == "HEAD" else None
        self.send_header("Content-Length", length or str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer


@contextmanager
def proxy(port: int, fault: Fault = well) -> Iterator[Proxy]:
    """A proxy that listens."""
    with Proxy(port, fault) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()


SECRET = "hush-hush-hush"

KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1"}


class Bucket:
    """A bucket, looked at with Amazon's own library."""

    def __init__(self, port: int) -> None:
        keys = {"aws_access_key_id": "testing", "aws_secret_access_key": SECRET, "region_name": "us-east-1"}
        self.name = f"bucket-{uuid.uuid4().hex}"
        self.client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", **keys)
        self.client.create_bucket(Bucket=self.name)
        self.address = f"s3://{self.name}"

    def names(self, prefix: str = "") -> list[str]:
        """Of all objects below a prefix."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return [found["Key"] for page in pages for found in page.get("Contents", ())]

    def read(self, key: str) -> bytes:
        """An object."""
        return self.client.get_object(Bucket=self.name, Key=key)["Body"].read()

    def put(self, key: str, content: bytes) -> None:
        """Put an object."""
        self.client.put_object(Bucket=self.name, Key=key, Body=content, ACL="public-read")

    def fetch(self, folder: Path) -> None:
        """All objects, as files."""
        for key in self.names():
            (folder / key).parent.mkdir(parents=True, exist_ok=True)
            (folder / key).write_bytes(self.read(key))


def command(*words: Any) -> Any:
    """A command's result."""
    return CliRunner().invoke(cli, list(map(str, words)))
