"""Chromium without a window, spoken to in its DevTools protocol over a pipe.

https://chromedevtools.github.io/devtools-protocol
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
    "about:blank",
]
PATIENCE = 60  # seconds


def find_chromium():
    """Return the path of the browser, or None."""
    named = os.environ.get("CHROMIUM")
    return named or next(filter(None, map(shutil.which, NAMES)), None)


def _pipe():
    """Return both ends, of numbers that are neither 3 nor 4."""
    ends = os.pipe()
    high = tuple(fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in ends)
    for end in ends:
        os.close(end)
    return high


class Browser:
    """One browser with one page; ``events`` has all that it has told."""

    def __init__(self, profile):
        reading, self._writing = _pipe()
        self._reading, writing = _pipe()

        def in_the_child():
            os.dup2(reading, 3)
            os.dup2(writing, 4)

        self._process = subprocess.Popen(
            [find_chromium(), f"--user-data-dir={profile}", *OPTIONS],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(3, 4),
            preexec_fn=in_the_child,
        )
        os.close(reading)
        os.close(writing)
        self._number, self._rest, self._session = 0, b"", None
        self.events = []
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for part in ("Page", "Runtime", "Log", "Network"):
            self(f"{part}.enable")

    def close(self):
        """End the browser."""
        self._process.terminate()
        self._process.wait(PATIENCE)
        os.close(self._reading)
        os.close(self._writing)

    def __call__(self, method, **parameters):
        """Send a command and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._writing, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = self._receive(deadline)
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def _receive(self, deadline):
        """Return the next message; events are kept."""
        while b"\0" not in self._rest:
            left = deadline - time.monotonic()
            assert left > 0, "the browser does not answer"
            if select.select([self._reading], [], [], left)[0]:
                piece = os.read(self._reading, 1 << 20)
                assert piece, "the browser has ended"
                self._rest += piece
        text, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(text)
        if "method" in message:
            self.events.append(message)
        return message

    def open(self, path: Path, width=1200, height=900, dark=False, phone=False):
        """Show a file from disk and wait until it has been loaded."""
        size = {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1}
        self("Emulation.setDeviceMetricsOverride", mobile=phone, **size)
        self.colours(dark)
        self.events.clear()
        self("Page.navigate", url=path.resolve().as_uri())
        deadline = time.monotonic() + PATIENCE
        while "Page.loadEventFired" not in [event["method"] for event in self.events]:
            self._receive(deadline)
        self.frame()

    def colours(self, dark):
        """Set what the page is told about light and dark."""
        value = "dark" if dark else "light"
        feature = {"name": "prefers-color-scheme", "value": value}
        self("Emulation.setEmulatedMedia", features=[feature])

    def run(self, program):
        """Run a piece of JavaScript in the page and return its value, waiting for a promise."""
        result = self("Runtime.evaluate", expression=program, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def frame(self):
        """Wait until what has changed is drawn."""
        self.run(
            "new Promise(go => requestAnimationFrame(() => requestAnimationFrame(() => go(1))))"
        )

    def click(self, selector):
        """Press and let go of the mouse in the middle of an element."""
        self.run(f"document.querySelector({selector!r}).scrollIntoView({{block: 'center'}})")
        x, y = self.run(
            f"(r => [r.x + r.width / 2, r.y + r.height / 2])"
            f"(document.querySelector({selector!r}).getBoundingClientRect())"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def key(self, name):
        """Press a key."""
        code = {"ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "End": 35}[name]
        for kind in ("keyDown", "keyUp"):
            self(
                "Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code
            )

    def complaints(self):
        """Return errors and warnings of the page."""
        bad = {"Runtime.exceptionThrown", "Log.entryAdded"}
        found = [event["params"] for event in self.events if event["method"] in bad]
        calls = [e["params"] for e in self.events if e["method"] == "Runtime.consoleAPICalled"]
        return found + [call for call in calls if call["type"] in ("error", "warning", "assert")]

    def requests(self):
        """Return the addresses that were asked for."""
        asked = [e for e in self.events if e["method"] == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in asked]

    def picture(self, path: Path, whole=True):
        """Save what is seen as PNG; the whole page, or the part in the window."""
        shot = self("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))
