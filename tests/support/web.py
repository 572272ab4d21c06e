"""A web server on loopback over a folder, in a process of its own: GDAL's requests would wait for threads of theirs."""

import base64
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

MENDED = "mended"


class Web(NamedTuple):
    """A server that runs.

    Attributes:
        port: On 127.0.0.1.
        log: The file with the paths that were asked for, a line each.
    """

    port: int
    log: Path

    @property
    def address(self) -> str:
        """Of its folder."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def asked(self) -> list[str]:
        """The paths that were asked for."""
        return self.log.read_text().split()


@contextmanager
def serving(folder: Path, log: Path, user: str = "", query: str = "", breaks_after: int = 10**9) -> Iterator[Web]:
    """Serve a folder.

    Args:
        folder: With the files.
        log: A new file.
        user: `NAME:PASSWORD` that must be given, if any.
        query: What must stand behind each path, if anything.
        breaks_after: Requests after which all are refused, as by a signature that is too old, until the folder has a
            file of the name MENDED.
    """
    command = [sys.executable, __file__, str(folder), user, query, str(breaks_after)]
    with log.open("w") as errors:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
    with server:
        assert server.stdout is not None
        try:
            yield Web(int(server.stdout.readline()), log)
        finally:
            server.kill()


class _Handler(BaseHTTPRequestHandler):
    folder, user, query, breaks_after = Path(), "", "", 0
    lock, count = threading.Lock(), 0

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        file = self.folder / path.strip("/")
        with self.lock:
            type(self).count += 1
            print(self.path, file=sys.stderr, flush=True)
        login = f"Basic {base64.b64encode(self.user.encode()).decode()}"
        stranger = query != self.query or (self.user and self.headers.get("Authorization") != login)
        if stranger or (self.count > self.breaks_after and not (self.folder / MENDED).exists()):
            self._answer(403)
        elif file.is_file():
            self._send(file.read_bytes())
        else:
            self._answer(404)

    do_HEAD = do_GET

    def _send(self, content: bytes) -> None:
        if "Range" not in self.headers:
            return self._answer(200, content)
        start, _, stop = self.headers["Range"].removeprefix("bytes=").partition("-")
        part = content[int(start) : int(stop or len(content)) + 1]
        return self._answer(206, part, f"bytes {start}-{int(start) + len(part) - 1}/{len(content)}")

    def _answer(self, code: int, content: bytes = b"", span: str = "") -> None:
        self.send_response(code)
        if span:
            self.send_header("Content-Range", span)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *words: object) -> None:
        """Say nothing of its own."""


if __name__ == "__main__":
    _Handler.folder, (_Handler.user, _Handler.query) = Path(sys.argv[1]), sys.argv[2:4]
    _Handler.breaks_after = int(sys.argv[4])
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
