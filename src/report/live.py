"""Serves the page of runs to this machine only, and draws it again when their files change (dtrain-report --live).

The main thread looks at the files and draws. Threads answer requests with the finished page. Runs are read in another
process, since a damaged file may end it. dtrain-eval is called in another process, since it takes longer than an epoch
may take. Nothing is drawn while no browser asks for the page: the cores belong to the training.
"""

import contextlib
import http.server
import itertools
import json
import math
import multiprocessing
import os
import re
import secrets
import signal
import socket
import socketserver
import sys
import threading
import time

import charts
import page
import page_network
import runs
from hdf5 import Unreadable, apart
from program import ENDING_SIGNALS, EXIT_USAGE, end_by_signals, fail, signals_held

ADDRESS = "127.0.0.1"
LOOK_SECONDS = 0.25  # between two looks at the files
REST = 2  # a drawing is followed by a rest that is so many times as long,
MAX_REST_SECONDS = 1.2  # but not longer than this
RETRY_SECONDS = 5  # after a drawing that failed
EVALUATION_REST = 4
MIN_EVALUATION_REST_SECONDS = 60
CHANGE_SECONDS = 20  # a request for changes is answered after this time, also without one
WATCHED_SECONDS = 60  # a page that nobody has asked for during this time is not drawn
MAX_CONNECTIONS = 32  # others are closed at once: any program on this machine can open some
REQUEST_SECONDS = 5  # a connection whose request is not complete after this time is closed,
ANSWER_SECONDS = 30  # and one that does not take PIECE_BYTES of the answer in this time
PIECE_BYTES = 1 << 16
END_SECONDS = 2  # the process of an evaluation is killed if it has not ended by then
HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
           "Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin"}
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; base-uri 'none'; " \
         "form-action 'none'; frame-ancestors 'none'; script-src 'nonce-{}'"


class Published:
    """The finished page. The main thread replaces it, and the threads of requests read it."""

    def __init__(self):
        self._changed = threading.Condition()
        self._html, self._network, self._network_number = b"", b"", 0
        self.version = 0  # 0 before the first page
        self.problem = ""  # why there is no newer page
        self._asked = time.monotonic()

    def publish(self, html, network, network_number):
        """`html` contains the data of the network, `network`. Other data have another number."""
        with self._changed:
            self._html, self._network, self._network_number = html, network, network_number
            self.version += 1
            self.problem = ""
            self._changed.notify_all()

    def other_than(self, version):
        """Waits for another version than `version`, but not for ever. Returns the current version."""
        with self._changed:
            self._asked = time.monotonic()
            self._changed.wait_for(lambda: self.version != version, CHANGE_SECONDS)
            self._asked = time.monotonic()
            return self.version

    def page(self, known_network):
        """The page, without the data of the network that has the number `known_network`: they may be most of the page.
        None if no page could be drawn so far."""
        if self.other_than(0) == 0:
            return None
        with self._changed:
            return self._html.replace(self._network, b"", 1) if known_network == self._network_number else self._html

    def is_watched(self):
        return time.monotonic() - self._asked < WATCHED_SECONDS


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port, published):
        self.published, self.token, self.nonce = published, secrets.token_urlsafe(), secrets.token_urlsafe()
        self._connections = {}  # when each is closed if its request is not complete by then
        super().__init__((ADDRESS, port), Handler)
        self.port = self.server_address[1]
        self.hosts = {f"{name}:{self.port}" for name in (ADDRESS, "localhost")}

    def server_bind(self):
        socketserver.TCPServer.server_bind(self)  # HTTPServer would ask the name service, which may take long

    def process_request(self, request, client_address):
        if len(self._connections) >= MAX_CONNECTIONS:
            self.shutdown_request(request)
            return
        self._connections[request] = time.monotonic() + REQUEST_SECONDS
        super().process_request(request, client_address)

    def request_is_complete(self, request):
        self._connections[request] = math.inf

    def shutdown_request(self, request):
        self._connections.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self):
        for request, end in self._connections.copy().items():
            if time.monotonic() > end:
                with contextlib.suppress(OSError):  # it is closed
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request, client_address):
        pass  # the browser has closed the connection


class Handler(http.server.BaseHTTPRequestHandler):
    timeout = ANSWER_SECONDS
    server_version, sys_version = "dtrain-report", ""
    policy = "default-src 'none'"

    def do_GET(self):
        self.server.request_is_complete(self.request)
        # A page of another site may let its own name point to 127.0.0.1, and then read what is served here.
        if self.headers.get_all("Host", []) not in [[host] for host in self.server.hosts]:
            self.send_error(403, "Wrong Host header")
            return
        path, _, query = self.path.partition("?")
        parts = re.fullmatch("/([^/]+)/(|changes)", path)
        number = re.fullmatch("(?:after|network)=([0-9]{1,9})", query)
        number = int(number[1]) if number else -1
        if not parts or not secrets.compare_digest(parts[1].encode(), self.server.token.encode()):
            self.send_error(404)
        elif parts[2] == "changes":
            version = self.server.published.other_than(number)
            self._answer("application/json", json.dumps({"version": version,
                                                         "problem": self.server.published.problem}).encode())
        elif html := self.server.published.page(number):
            self.policy = POLICY.format(self.server.nonce)
            self._answer("text/html; charset=utf-8", html)
        else:
            self.send_error(503, explain=self.server.published.problem or "The first page is not drawn yet")

    do_HEAD = do_GET

    def _answer(self, kind, body):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            for begin in range(0, len(body), PIECE_BYTES):
                self.wfile.write(body[begin:begin + PIECE_BYTES])

    def send_error(self, code, message=None, explain=None):
        super().send_error(405 if code == 501 else code, None if code == 501 else message, explain)

    def send_response(self, code, message=None):
        super().send_response(code, message)
        if code == 405:
            self.send_header("Allow", "GET, HEAD")
        if code == 503:
            self.send_header("Refresh", "2")

    def end_headers(self):
        for name, value in {**HEADERS, "Content-Security-Policy": self.policy}.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_):
        pass


class Silent:
    """Stands for Progress: a live page is drawn too often for messages."""

    def doing(self, what):
        pass


def state_of(file):
    """A value that changes when the file is replaced. None if there is no file."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def found_by(find):
    """find(), or nothing if a folder cannot be read now."""
    try:
        return find()
    except OSError:
        return []


def state_of_input(path):
    """A value that changes when the run or the file at `path` changes."""
    checkpoints = found_by(lambda: runs.checkpoints_of(path))
    return (state_of(path / "log.h5") or state_of(path), [checkpoint.name for checkpoint in checkpoints],
            state_of(checkpoints[0]) if checkpoints else None)


def has_ended(run):
    return run.is_complete or run.ended_early


class Evaluation:
    """Computes page.network_of() in another process, now and then."""

    def __init__(self, evaluator):
        self._evaluator = evaluator
        self._child, self._receiver = None, None
        self._begun, self._next, self._subject = 0.0, 0.0, None
        pending = "the first evaluation is not finished yet"
        self.network = {"first_layer": None, "evaluation_failed": pending, "network": page_network.PageNetwork(pending)}
        self.notes, self.state = [], ""
        self.number = 0  # of evaluations that have ended

    def advance(self, run):
        """Starts an evaluation if one is due. Returns whether the page must be drawn again."""
        now = time.monotonic()
        if self._child is None:
            newest = next(iter(found_by(lambda: run.checkpoints)), None)
            subject = newest and (newest, state_of(newest))
            if not subject or subject == self._subject or now < self._next and not (has_ended(run) and self._subject):
                return False
            try:
                self._start(run)
            except OSError as error:
                self.notes = [f"cannot start the evaluation of the newest checkpoint: {error.strerror}"]
                self._subject, self._next = None, now + MIN_EVALUATION_REST_SECONDS
                return True
            self._subject, self._begun = subject, now
            return False
        if not self._receiver.poll():
            return False
        try:
            result = self._receiver.recv()
        except (EOFError, OSError):  # OSError: in the middle of the message
            result = "the process that evaluates the newest checkpoint has died"
        if isinstance(result, str):
            self.notes = [result]
        else:
            self.network, self.notes = result
            step = self.network["evaluation"].attributes["step"] if "evaluation" in self.network else None
            self.state = f"{time.strftime('%H:%M:%S')}" + (f", after step {step:,}" if step is not None else "")
            self.number += 1
        self.end()
        now = time.monotonic()
        self._next = now + max(MIN_EVALUATION_REST_SECONDS, EVALUATION_REST * (now - self._begun))
        return True

    def _start(self, run):
        processes = multiprocessing.get_context("fork")
        self._receiver, sender = processes.Pipe(duplex=False)
        child = processes.Process(target=_evaluate, args=(self._receiver, sender, run, self._evaluator))
        with signals_held():  # so that the process is known, and has its own handlers, when a signal comes
            child.start()
            self._child = child
            os.setpgid(child.pid, child.pid)  # with the processes that it starts
        sender.close()

    def end(self):
        """Ends the process, if there is one, and dtrain-eval with it."""
        if self._child is not None:
            for number in (signal.SIGTERM, signal.SIGKILL):  # the HDF5 library may never return to a handler
                if self._child.is_alive():
                    os.killpg(self._child.pid, number)
                    self._child.join(END_SECONDS)
            self._receiver.close()
            self._child = None


def _evaluate(receiver, sender, run, evaluator):
    receiver.close()  # or else nobody would tell this process that the main one has died
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process decides about the end
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # an exception, so that dtrain-eval ends, and its folder goes
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)
    os.nice(10)
    charts.charts_so_far = itertools.count(1000)  # ids that the charts of the training do not use
    notes_before = len(run.notes)
    try:
        result = page.network_of(run, evaluator, Silent()), run.notes[notes_before:]
    except Exception as error:  # the main process reports it
        result = f"the evaluation of the newest checkpoint has failed: {error!r}"
    with contextlib.suppress(BrokenPipeError):
        sender.send(result)


class LivePage:
    def __init__(self, paths, evaluator, published, nonce):
        self._paths, self._published, self._nonce = paths, published, nonce
        self._evaluation = Evaluation(evaluator)
        self._read, self._said = {}, set()  # the last readable state of each path; problems that were printed
        self._states, self._rest_until, self._run = None, 0.0, None

    def advance(self):
        """Draws the page again if its inputs have changed and somebody looks at it."""
        if not self._published.is_watched() or time.monotonic() < self._rest_until:
            return
        evaluated = self._run is not None and self._evaluation.advance(self._run)
        states = [state_of_input(path) for path in self._paths]
        if not evaluated and states == self._states:
            return
        begun, self._states = time.monotonic(), None
        try:
            self._draw()
        except Exception as error:  # the last page stays, and the next drawing may succeed
            self._published.problem = f"cannot draw the page: {error!r}"
            self._say(self._published.problem)
            self._rest_until = time.monotonic() + RETRY_SECONDS
            return
        self._states = states
        now = time.monotonic()
        self._rest_until = now + min(MAX_REST_SECONDS, REST * (now - begun))

    def _say(self, problem):
        if problem not in self._said:
            self._said.add(problem)
            print(f"dtrain-report: {problem}", file=sys.stderr)

    def _draw(self):
        shown, problems = self._inputs()
        trained = [item for item in shown if isinstance(item, runs.Run)]
        self._run = trained[0] if len(trained) == 1 else None
        live = {"version": self._published.version + 1, "network": "", "drawn": time.strftime("%H:%M:%S"),
                "network_number": 0}
        network = ""
        if self._run is not None:
            problems += [note for note in self._evaluation.notes if note not in self._run.notes]
            live["drawn"] += f", after epoch {self._run.last('epoch') or 0:,}"
            live["network"], live["network_number"] = self._evaluation.state, self._evaluation.number
            network = self._evaluation.network["network"].data
        for problem in problems:
            self._say(problem)
        charts.charts_so_far = itertools.count()  # so that a chart that has not changed keeps its ids
        names = {} if shown else {"names": [str(path) for path in self._paths]}
        html = page.render(shown, problems, None, Silent(), self._evaluation.network, "live.html.j2", live=live,
                           **names)
        # The browser runs only scripts with the nonce. All other text of the page is escaped, so it has no such tag.
        html = html.replace("<script>", f'<script nonce="{self._nonce}">')
        self._published.publish(html.encode(errors="replace"), network.encode(), live["network_number"])

    def _inputs(self):
        """What can be shown, and the problems. A run that can no longer be read is shown as it was."""
        problems = []
        for path in self._paths:
            try:
                self._read[path] = apart(path, lambda: runs.read(path))
            except (Unreadable, OSError) as error:
                text = str(error) if isinstance(error, Unreadable) else f"{path}: {error.strerror}"
                problems.append(f"{text}. The page shows the last state that could be read" if path in self._read else
                                f"waiting: {text}")
        shown = [self._read[path] for path in self._paths if path in self._read]
        runs.name_all(shown)
        return shown, problems

    def end(self):
        self._evaluation.end()


def serve(program, paths, evaluator, port):
    """Serves the page until a signal ends the program. Returns the exit code."""
    published = Published()
    try:
        server = Server(port, published)
    except OSError as error:
        fail(program, EXIT_USAGE, f"cannot serve at {ADDRESS}:{port}: {error.strerror}. Choose another --port, or "
                                  "leave it out: the system then chooses a free one")
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # a browser may close its connection at any time
    ending = end_by_signals(lambda number: 0)
    with signals_held():  # in the threads: a signal then interrupts what the main thread waits for
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://{ADDRESS}:{server.port}/{server.token}/\n"
          f"From another machine: ssh -L {server.port}:{ADDRESS}:{server.port} {socket.gethostname()}, then open the "
          "same address there. Ctrl-C ends the page.", flush=True)
    live = LivePage(list(dict.fromkeys(paths)), evaluator, published, server.nonce)
    try:
        while not ending:
            live.advance()
            time.sleep(LOOK_SECONDS)
    finally:
        live.end()
    return 0
