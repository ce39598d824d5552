"""Progress messages for work that takes longer than a second."""

import sys
import threading


class Progress:
    def __init__(self, program):
        self._program = program
        self._lock = threading.Lock()
        self._doing, self._late = "", False
        self._timer = threading.Timer(1.0, self._begin)
        self._timer.daemon = True
        self._timer.start()

    def _begin(self):
        with self._lock:
            self._late = True
            self._say()

    def _say(self):
        if self._late and self._doing:
            print(f"{self._program}: {self._doing} ...", file=sys.stderr, flush=True)

    def doing(self, what):
        with self._lock:
            self._doing = what
            self._say()

    def end(self):
        self._timer.cancel()
        with self._lock:
            self._doing = ""
