"""Drives Chromium by its debugging protocol, through pipes: https://chromedevtools.github.io/devtools-protocol/"""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

CHROMIUM = shutil.which("chromium")


class Browser:
    """A page in Chromium. `messages` are the errors and other messages of its console so far."""

    def __init__(self, address, width=1200, height=900):
        # Processes of Chromium may still write to the profile while it is removed.
        self._profile = tempfile.TemporaryDirectory(prefix="dtrain-chromium-", ignore_cleanup_errors=True)
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        # Chromium reads commands from descriptor 3 and writes to 4. Bash arranges that, since the pipes may have these
        # numbers themselves.
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$0" "$@" 3<&{to_read} 4>&{to_write}' if {to_read, to_write}.isdisjoint({3, 4}) else
             f'exec 10<&{to_read} 11>&{to_write}; exec "$0" "$@" 3<&10 4>&11', CHROMIUM, "--headless", "--no-sandbox",
             "--disable-gpu", f"--user-data-dir={self._profile.name}", f"--window-size={width},{height}",
             "--remote-debugging-pipe", "about:blank"], pass_fds=(to_read, to_write), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | {"HOME": self._profile.name})
        os.close(to_read)
        os.close(to_write)
        self._number, self._read, self._session, self.messages = 0, b"", None, []
        target = next(target for target in self.call("Target.getTargets")["targetInfos"] if target["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=address)
        self.wait_for("document.readyState == 'complete' && location.href != 'about:blank'")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)
        self._profile.cleanup()

    def call(self, method, timeout=30, **parameters):
        """Calls a method of the protocol and returns its result."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            command["sessionId"] = self._session
        os.write(self._to, json.dumps(command).encode() + b"\0")
        end = time.monotonic() + timeout
        while True:
            answer = self._next(end)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def _next(self, end):
        while b"\0" not in self._read:
            ready, _, _ = select.select([self._from], [], [], max(0.0, end - time.monotonic()))
            piece = os.read(self._from, 1 << 20) if ready else b""
            assert piece, "Chromium does not answer"
            self._read += piece
        text, _, self._read = self._read.partition(b"\0")
        message = json.loads(text)
        if message.get("method") in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
            self.messages.append(message["params"])
        return message

    def value(self, expression):
        """The value of a JavaScript expression in the page. Promises are awaited."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait_for(self, condition, timeout=20):
        """Waits until a JavaScript expression is true. Returns the seconds that this took."""
        begun = time.monotonic()
        while not self.value(f"!!({condition})"):
            assert time.monotonic() < begun + timeout, f"{condition} did not become true: {self.messages}"
            time.sleep(0.05)
        return time.monotonic() - begun

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))
