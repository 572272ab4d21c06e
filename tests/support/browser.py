"""A headless Chromium that opens a file, is clicked on, and tells what it said and asked for.

It is spoken to in the DevTools protocol over a websocket on loopback.
"""

import asyncio
import base64
import json
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tornado.websocket import websocket_connect

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

LOUD = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
"""Events that a page without faults does not cause."""


class Page:
    """One open page; made by `visit`.

    Attributes:
        said: Errors and console messages.
        asked: Addresses that were requested, the page's own file first.
    """

    def __init__(self, socket: Any) -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        self._socket = socket
        self._number = 0

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command, and its answer."""
        self._number += 1
        await self._socket.write_message(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            message = json.loads(await asyncio.wait_for(self._socket.read_message(), 120))
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]
            self._hear(message)

    def _hear(self, message: dict[str, Any]) -> None:
        if message["method"] in LOUD:
            self.said.append(json.dumps(message["params"]))
        if message["method"] == "Network.requestWillBeSent":
            self.asked.append(message["params"]["request"]["url"])

    async def value(self, expression: str) -> Any:
        """What JavaScript makes of an expression, promises awaited, two frames later than now."""
        later = f"new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done({expression}))))"
        found = await self.call("Runtime.evaluate", expression=later, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def picture(self, path: Path) -> None:
        """All of the page as a PNG."""
        found = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))

    async def press(self, x: float, y: float, to: tuple[float, float] | None = None) -> None:
        """Press the mouse, and let go there or elsewhere."""
        end = to or (x, y)
        for kind, place in (("mousePressed", (x, y)), ("mouseMoved", end), ("mouseReleased", end)):
            await self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)


@asynccontextmanager
async def visit(file: Path, width: int, dark: bool = False) -> AsyncIterator[Page]:
    """A file in a window of that width; narrow ones are a phone's."""
    assert CHROMIUM
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0"]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [CHROMIUM, *options, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            async with _page(Path(profile)) as page:
                await _show(page, file, width, dark)
                yield page
        finally:
            process.terminate()
            process.wait(30)


@asynccontextmanager
async def _page(profile: Path) -> AsyncIterator[Page]:
    """A new page of the browser that was just started with that profile."""
    active = profile / "DevToolsActivePort"
    for _ in range(1200):
        if active.exists() and len(active.read_text().splitlines()) > 1:
            break
        await asyncio.sleep(0.1)
    port, path = active.read_text().splitlines()[:2]
    browser = await websocket_connect(f"ws://127.0.0.1:{port}{path}")
    target = await Page(browser).call("Target.createTarget", url="about:blank")
    address = f"ws://127.0.0.1:{port}/devtools/page/{target['targetId']}"
    socket = await websocket_connect(address, max_message_size=2**28)
    try:
        yield Page(socket)
    finally:
        for open_one in (socket, browser):
            open_one.close()
            while await asyncio.wait_for(open_one.read_message(), 10) is not None:
                pass  # what was still on its way; the end of it closes the socket


async def _show(page: Page, file: Path, width: int, dark: bool) -> None:
    for domain in ("Runtime", "Log", "Network", "Page"):
        await page.call(f"{domain}.enable")
    metrics = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    await page.call("Emulation.setDeviceMetricsOverride", **metrics)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    await page.call("Emulation.setEmulatedMedia", features=[scheme])
    await page.call("Page.navigate", url=file.absolute().as_uri())
    for _ in range(1200):
        if await page.value("document.body?.dataset.ready ?? ''") == "yes":
            return
        await asyncio.sleep(0.1)
    raise TimeoutError(f"{file} was not ready: {page.said}")
