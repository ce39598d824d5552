"""Following a run: dtrain-report --live serves a page that changes with the run, to its user only, and dtrain-eval
--watch draws the run in the terminal."""

import contextlib
import fcntl
import http.client
import io
import itertools
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
import unittest
from pathlib import Path
from unittest import mock
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402
from browser import CHROMIUM, Browser  # noqa: E402
from page_reading import Page  # noqa: E402

sys.path.insert(0, str(testing.SOURCE / "src/report"))
import live  # noqa: E402
import runs  # noqa: E402

MAX_SECONDS = 3  # from a new log to the new page
SETTINGS = {**testing.RELU_CROSS_ENTROPY, "training.batch_size": 2, "training.epochs": 1000000,
            "training.learning_rate": 0.001}


class FollowingTestCase(testing.DtrainTestCase):
    """Two states of one run: stopped after some epochs, and complete one epoch later."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        maker = testing.DtrainTestCase()
        maker.data, maker.folder = cls.data, cls.data
        config = maker.write_config({**SETTINGS, "output.directory": cls.data / "run"})
        with testing.Process(testing.command("dtrain", config), cls.data) as process:
            process.wait_for(r"epoch +3/")
            process.popen.send_signal(signal.SIGTERM)
            assert process.wait(30).code == testing.EXIT_STOPPED, process.result()
        cls.stopped = cls.data / "stopped"
        shutil.copytree(cls.data / "run", cls.stopped)
        log = testing.read_h5(cls.stopped / "log.h5")
        cls.epochs, cls.last = len(log.datasets["/epochs/epoch"]), int(log.datasets["/epochs/epoch"][-1]) + 1
        maker.train({**SETTINGS, "output.directory": cls.data / "run"}, f"--training.epochs={cls.last}")
        cls.complete = cls.data / "run"

    def put(self, file, run="run"):
        """Replaces the log of `run` by a copy of `file`, as dtrain does."""
        shutil.copyfile(file, self.folder / "new")
        os.replace(self.folder / "new", self.folder / run / "log.h5")


class LiveTest(FollowingTestCase):
    @contextlib.contextmanager
    def live(self, *arguments, launcher=()):
        """A live page. Afterwards the program has ended by Ctrl-C."""
        words = [*launcher, *testing.command("dtrain-report", *arguments, "--live")]
        with testing.Process(words, self.folder) as process:
            process.wait_for(r"(?s)http://.*\n.*\n")
            self.address = urlsplit(process.result().stdout.splitlines()[0])
            yield process
            if process.popen.poll() is None:
                self.end(process, signal.SIGINT)

    def end(self, process, by):
        process.popen.send_signal(by)
        result = process.wait(10)
        self.assertEqual(result.code, 0, result)
        self.assertNotIn("Traceback", result.stderr)

    def ask(self, path=None, method="GET", host=None):
        """Status, headers and text of the answer."""
        hosts = host if isinstance(host, list) else [host or f"127.0.0.1:{self.address.port}"]
        request = f"{method} {path or self.address.path} HTTP/1.0\r\n" + "".join(f"Host: {name}\r\n" for name in hosts)
        with socket.create_connection((self.address.hostname, self.address.port), timeout=30) as connection:
            connection.sendall(f"{request}\r\n".encode("latin-1"))
            answer = http.client.HTTPResponse(connection, method=method)
            answer.begin()
            return answer.status, answer.headers, answer.read().decode()

    def page(self):
        status, _, text = self.ask()
        self.assertEqual(status, 200)
        page = Page(re.sub(r"(?s)<script.*?</script>", "", text))
        self.assertEqual(page.problems, [])
        return page

    def seconds_until(self, condition, timeout=20):
        """Asks for the page until condition(page). Returns how long this took."""
        begun = time.monotonic()
        while not condition(self.page()):
            self.assertLess(time.monotonic(), begun + timeout, self.page().text)
            time.sleep(0.05)
        return time.monotonic() - begun

    def test_page_follows_the_run(self):
        run = self.folder / "run"
        with self.live("run") as process:
            self.assertIn(f"waiting: {run.name}: no such file or folder", self.page().text)
            shutil.copytree(self.stopped, run)
            self.seconds_until(lambda page: page.by_id.get("epochs") == f"{self.epochs:,}")
            durations = []
            for _ in range(2):  # another program may need the processor at one moment, but not at all of them
                self.put(self.complete / "log.h5")
                durations.append(self.seconds_until(lambda page: page.by_id["epochs"] == f"{self.last:,}"))
                self.put(self.stopped / "log.h5")
                durations.append(self.seconds_until(lambda page: page.by_id["epochs"] == f"{self.epochs:,}"))
            self.assertLess(min(durations), MAX_SECONDS, durations)

            # The network follows later. Its step is that of the checkpoint.
            step = testing.newest_step(run)
            self.seconds_until(lambda page: "confusion" in page.tables)
            page = self.page()
            self.assertEqual(page.number("evaluated-step"), step)
            self.assertRegex(page.by_id["live-network"], rf"^\d\d:\d\d:\d\d, after step {step:,}$")

            text = self.ask()[2]
            number = re.search('data-network="([0-9]+)"', text)[1]
            short = self.ask(f"{self.address.path}?network={number}")[2]
            data = re.search('id="network-data">(.+?)</script>', text)[1]
            self.assertNotIn(data[:100], short)
            self.assertEqual(len(short), len(text) - len(data))

            (run / "log.h5").write_bytes(self.stopped.joinpath("log.h5").read_bytes()[:3000])
            for checkpoint in (run / "checkpoints").iterdir():
                checkpoint.write_bytes(b"no checkpoint")
            self.seconds_until(lambda page: "log.h5: " in page.text)
            self.assertEqual(self.page().by_id["epochs"], f"{self.epochs:,}")
            shutil.rmtree(run)
            self.seconds_until(lambda page: "no such file or folder. The page shows the last state" in page.text)
            self.assertEqual(self.page().by_id["epochs"], f"{self.epochs:,}")
            shutil.copytree(self.complete, run)
            self.seconds_until(lambda page: page.by_id["epochs"] == f"{self.last:,}"
                               and "no such file" not in page.text)
            lines = process.result().stdout.splitlines()
        self.assertEqual(len(lines), 2)
        self.assertIn(f"ssh -L {self.address.port}:127.0.0.1:{self.address.port} {socket.gethostname()}", lines[1])
        self.assertFalse(list(self.folder.glob("*.html")))

    def test_requests_that_are_refused(self):
        with self.live(self.stopped):
            token = self.address.path.strip("/")
            self.assertGreater(len(token), 40)
            port = self.address.port
            for path in ("/", "/wrong/", f"/{token}", f"/{token[:-1]}/", f"/{token}x/", f"/{token}/x", f"/{token}/x/",
                         f"/{token}/../{token}/", f"/{token}/log.h5", f"/{token}/changes/", "/changes",
                         f"/x/{token}/", f"http://127.0.0.1:{port}/", "/\xff/", "*"):
                with self.subTest(path):
                    self.assertEqual(self.ask(path)[0], 404)
            for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}",
                         f"0.0.0.0:{port}", f"127.0.0.1:{port}.evil.example", [],
                         [f"127.0.0.1:{port}", "evil.example"]):
                with self.subTest(host):
                    self.assertEqual(self.ask(host=host)[0], 403)
            for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "NONSENSE"):
                with self.subTest(method):
                    status, headers, _ = self.ask(method=method)
                    self.assertEqual((status, headers["Allow"]), (405, "GET, HEAD"))
            for host in (f"127.0.0.1:{port}", f"localhost:{port}"):
                self.assertEqual(self.ask(host=host)[0], 200)
            self.assertEqual(self.ask(method="HEAD")[2], "")
            self.assertEqual(self.ask(f"/{token}/changes?after=\xb2")[0], 200)

            for path in (self.address.path, "/"):
                headers = self.ask(path)[1]
                policy = headers["Content-Security-Policy"]
                self.assertIn("default-src 'none'", policy)
                self.assertNotIn("unsafe", policy.partition("script-src")[2])
                self.assertEqual({name: headers[name] for name in ("X-Content-Type-Options", "Referrer-Policy",
                                                                   "Cache-Control")},
                                 {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
                                  "Cache-Control": "no-store"})

    def test_is_served_to_this_machine_only(self):
        with self.live(self.stopped):
            listening = [line.split()[1] for table in ("tcp", "tcp6") if Path(f"/proc/net/{table}").exists()
                         for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:] if line.split()[3] == "0A"]
            port = f"{self.address.port:04X}"
            self.assertEqual([place for place in listening if place.endswith(f":{port}")],
                             [f"{struct.unpack('=I', socket.inet_aton('127.0.0.1'))[0]:08X}:{port}"])
            second = testing.run("dtrain-report", self.stopped, "--live", "--port", self.address.port, cwd=self.folder)
            self.assert_one_message(second, testing.EXIT_BAD_CONFIG, self.address.port, "Address already in use",
                                    program="dtrain-report")
            self.assertEqual(second.stdout, "")

    def test_ends_at_once_also_during_an_evaluation(self):
        slow = self.folder / "slow-eval"
        slow.write_text(f"#!/bin/sh\necho $$ > {self.folder}/pid; exec sleep 100\n")
        slow.chmod(0o700)
        for by in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            with self.subTest(by), self.live(self.stopped, "--eval", slow) as process:
                self.assertIn("the first evaluation is not finished yet", self.page().text)
                process.wait_until(lambda: (self.folder / "pid").exists() and (self.folder / "pid").read_text())
                pid = int((self.folder / "pid").read_text())
                self.end(process, by)
                self.assertFalse(Path(f"/proc/{pid}").exists(), "dtrain-eval is left behind")
                (self.folder / "pid").unlink()

    def test_evaluation_ends_if_the_program_is_killed(self):
        slow = self.folder / "slow-eval"
        slow.write_text(f"#!/bin/sh\necho $PPID > {self.folder}/pid; sleep 1; exec {testing.BIN}/dtrain-eval \"$@\"\n")
        slow.chmod(0o700)
        with self.live(self.stopped, "--eval", slow) as process:
            process.wait_until(lambda: (self.folder / "pid").exists() and (self.folder / "pid").read_text())
            pid = int((self.folder / "pid").read_text())
            self.assertNotEqual(pid, process.popen.pid)
            process.popen.kill()
            process.popen.wait()
            end = time.monotonic() + 30
            while Path(f"/proc/{pid}").exists():
                self.assertLess(time.monotonic(), end, "the process of the evaluation is left behind")
                time.sleep(0.05)

    def test_clients_that_hang_up(self):
        with self.live(self.stopped) as process:
            complete = f"GET {self.address.path} HTTP/1.0\r\nHost: 127.0.0.1:{self.address.port}\r\n\r\n".encode()
            for request, is_reset in itertools.product((b"", b"GET", complete), (True, False)):
                for _ in range(5):
                    with socket.create_connection((self.address.hostname, self.address.port)) as client:
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", is_reset, 0))
                        client.sendall(request)
            self.assertIn("epochs", self.page().by_id)
            self.assertEqual(process.result().stderr, "")

    def test_connections_without_a_request(self):
        """They do not use up the descriptors of the program, and end soon, also if they send a byte now and then."""
        run = self.folder / "run"
        shutil.copytree(self.stopped, run)
        with self.live("run", launcher=["bash", "-c", 'ulimit -n 60; exec "$0" "$@"']) as process:
            self.page()
            with contextlib.ExitStack() as stack:
                clients = [stack.enter_context(socket.create_connection((self.address.hostname, self.address.port)))
                           for _ in range(58)]
                self.put(self.complete / "log.h5")
                begun, left = time.monotonic(), clients
                while left:
                    self.assertLess(time.monotonic(), begun + 20)
                    for client in left:
                        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                            client.send(b"G")
                    time.sleep(0.2)
                    left = [client for client in left if not select.select([client], [], [], 0)[0]]
            self.seconds_until(lambda page: page.by_id["epochs"] == f"{self.last:,}")
            self.assertEqual(process.result().stderr, "")

    def test_ends_while_a_file_is_read(self):
        """A read that never ends: nothing is written into the pipe."""
        (self.folder / "run").mkdir()
        os.mkfifo(self.folder / "run/log.h5")
        with self.live("run") as process:
            children = Path(f"/proc/{process.popen.pid}/task/{process.popen.pid}/children")
            process.wait_until(children.read_text)
            child = Path(f"/proc/{children.read_text().split()[0]}")
            self.end(process, signal.SIGTERM)
            self.assertFalse(child.exists(), "the process that reads is left behind")

    def test_several_runs(self):
        with self.live(self.stopped, self.complete, self.folder / "later", 300 * "x"):
            page = self.page()
            self.assertEqual({row[0] for row in page.tables["runs"][1:]}, {"stopped", "run"})
            for reason in ("later: no such file or folder", "xx: File name too long"):
                self.assertRegex(page.text, f"waiting: .*{reason}")

    def test_bad_options(self):
        for arguments, word in ((["--live", "-o", "page.html"], "--live"), (["--port", "8000"], "--live"),
                                (["--live", "--port", "80"], "1024"), (["--live", "--port", "65536"], "65535"),
                                (["--live", "--port", "x"], "x")):
            with self.subTest(arguments):
                result = testing.run("dtrain-report", self.stopped, *arguments, cwd=self.folder)
                self.assertEqual(result.code, testing.EXIT_BAD_CONFIG, result)
                self.assertIn(word, result.stderr.splitlines()[-1])

    def test_written_pages_have_nothing_of_it(self):
        testing.run("dtrain-report", self.stopped, "-o", "page.html", cwd=self.folder)
        page = (self.folder / "page.html").read_text()
        for word in ("fetch(", 'id="live', "#live"):
            self.assertNotIn(word, page)

    @unittest.skipUnless(CHROMIUM, "there is no chromium to open the page with")
    def test_in_a_browser(self):
        run = self.folder / "run"
        with self.live("run") as process:
            with Browser(self.address.geturl()) as browser:
                shutil.copytree(self.stopped, run)
                browser.wait_for("document.getElementById('network')?.hidden === false", 60)
                browser.value("document.getElementById('confusion').mark = 1; window.scrollTo(0, 900)")
                self.put(self.complete / "log.h5")
                browser.wait_for(f"document.getElementById('epochs').textContent == '{self.last:,}'")
                self.assertEqual(browser.value("[window.scrollY, document.getElementById('confusion').mark]"), [900, 1])
                self.assertEqual(browser.value("document.getElementById('live-connection').textContent"), "")

                # The run has ended, so the network follows at once.
                before = browser.value("document.getElementById('network-data').textContent")
                newest = next((self.complete / "checkpoints").glob(f"step-*{testing.newest_step(self.complete)}.h5"))
                shutil.copyfile(newest, self.folder / "new")
                os.replace(self.folder / "new", run / "checkpoints" / newest.name)
                browser.wait_for("!document.getElementById('network').hidden && document.getElementById('live-network')"
                                 f".textContent.endsWith('after step {testing.newest_step(run):,}')", 60)
                after = browser.value("document.getElementById('network-data').textContent")
                self.assertNotEqual(json.loads(before)["checkpoints"][-1], json.loads(after)["checkpoints"][-1])
                self.assertEqual(json.loads(after)["checkpoints"][-1]["step"], testing.newest_step(run))
                self.assertEqual(browser.messages, [])
                self.end(process, signal.SIGINT)
                browser.wait_for("document.getElementById('live-connection').textContent.startsWith('No answer since')")
                self.assertEqual(browser.value("document.getElementById('epochs').textContent"), f"{self.last:,}")

    @unittest.skipUnless(CHROMIUM, "there is no chromium to open the page with")
    def test_slow_connection(self):
        """The run changes while the page is loaded. The page follows, without being loaded again."""
        run = self.folder / "run"
        shutil.copytree(self.stopped, run)
        with self.live("run"), Browser("data:text/html,") as browser:
            def limit(bytes_per_second):
                browser.call("Network.emulateNetworkConditions", offline=False, latency=0,
                             downloadThroughput=bytes_per_second, uploadThroughput=bytes_per_second)

            self.page()
            browser.call("Network.enable")
            limit(10_000)
            browser.call("Page.navigate", url=self.address.geturl())
            self.put(self.complete / "log.h5")
            self.seconds_until(lambda page: page.by_id["epochs"] == f"{self.last:,}")
            self.assertEqual(browser.value("document.readyState"), "loading")
            limit(-1)
            browser.wait_for(f"document.getElementById('epochs')?.textContent == '{self.last:,}'")
            self.assertEqual(browser.value("performance.getEntriesByType('navigation')[0].type"), "navigate")


class FailureTest(FollowingTestCase):
    """Failures inside the program, which a user cannot cause at will."""

    def setUp(self):
        super().setUp()
        self.published = live.Published()
        self.page = live.LivePage([self.stopped], None, self.published, "")
        self.addCleanup(self.page.end)
        self.messages = io.StringIO()
        self.enterContext(contextlib.redirect_stderr(self.messages))

    def test_page_that_cannot_be_drawn(self):
        """It stays as it was, and is drawn again later."""
        with mock.patch("live.RETRY_SECONDS", 0), mock.patch("page.render", side_effect=MemoryError("no memory")):
            for _ in range(2):
                self.page.advance()
        self.assertEqual((self.published.version, self.published.problem),
                         (0, "cannot draw the page: MemoryError('no memory')"))
        self.assertEqual(self.messages.getvalue(), f"dtrain-report: {self.published.problem}\n")
        with mock.patch("live.CHANGE_SECONDS", 0):
            status, text = self.answer("")
            self.assertEqual(status, 503)
            self.assertIn("cannot draw the page", text)
            self.assertEqual(json.loads(self.answer("changes?after=0")[1]),
                             {"version": 0, "problem": self.published.problem})
        self.page.advance()
        self.assertEqual((self.published.version, self.published.problem), (1, ""))

    def answer(self, path):
        """Status and text of the answer to a request."""
        with live.Server(0, self.published) as server:
            thread = threading.Thread(target=server.handle_request)
            thread.start()
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
            connection.request("GET", f"/{server.token}/{path}")
            answer = connection.getresponse()
            text = answer.read().decode()
            connection.close()
            thread.join()
        return answer.status, text

    def test_file_that_crashes_the_library(self):
        with mock.patch("runs.read", lambda _: os.kill(os.getpid(), signal.SIGSEGV)):
            self.page.advance()
        self.assertIn("waiting: " + f"{self.stopped}: is damaged", self.published.page(-1).decode())

    def test_notes_are_shown_once(self):
        """While the log cannot be read, the page is drawn from the run as it was."""
        self.page._draw()
        self.page._evaluation.notes = ["the newest checkpoint is odd"]
        with mock.patch("runs.read", side_effect=live.Unreadable("log.h5: is damaged")):
            for _ in range(3):
                self.page._draw()
        self.assertEqual(self.published.page(-1).count(b"<li>the newest checkpoint is odd</li>"), 1)
        self.assertEqual(self.messages.getvalue().count("is odd"), 1)

    def evaluation(self, work):
        """An evaluation whose process does `work`."""
        self.enterContext(mock.patch("live._evaluate", work))
        evaluation = live.Evaluation(None)
        self.addCleanup(evaluation.end)
        return evaluation, runs.read(self.stopped)

    def wait_for(self, evaluation, run):
        end = time.monotonic() + 20
        while not evaluation.advance(run):
            self.assertLess(time.monotonic(), end)

    def test_evaluation_that_cannot_start(self):
        evaluation, run = self.evaluation(None)
        with mock.patch("multiprocessing.context.BaseContext.Pipe", side_effect=OSError(24, "Too many open files")):
            self.assertTrue(evaluation.advance(run))
        self.assertRegex(evaluation.notes[0], "cannot start .*: Too many open files")
        self.assertFalse(evaluation.advance(run), "the next try is later")

    def test_evaluation_that_fails(self):
        with mock.patch("page.network_of", side_effect=MemoryError("no memory")):
            evaluation, run = self.evaluation(live._evaluate)
            self.wait_for(evaluation, run)
        self.assertEqual(evaluation.notes,
                         ["the evaluation of the newest checkpoint has failed: MemoryError('no memory')"])

    def test_evaluation_that_dies_within_its_message(self):
        def send_a_part(_, sender, *__):
            os.write(sender.fileno(), struct.pack("!i", 1000) + b"x")
            os.kill(os.getpid(), signal.SIGKILL)

        evaluation, run = self.evaluation(send_a_part)
        self.wait_for(evaluation, run)
        self.assertEqual(evaluation.notes, ["the process that evaluates the newest checkpoint has died"])

    def test_evaluation_that_cannot_be_ended_by_sigterm(self):
        def ignore(_, sender, *__):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            sender.send(subprocess.Popen(["sleep", "100"]).pid)
            time.sleep(100)

        evaluation, run = self.evaluation(ignore)
        evaluation.advance(run)
        processes = [evaluation._child.pid, evaluation._receiver.recv()]
        with mock.patch("live.END_SECONDS", 0.1):
            evaluation.end()
        for pid in processes:  # the parent of the second one is gone, so it may be a zombie
            status = Path(f"/proc/{pid}/stat")
            self.assertTrue(not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z")


class Terminal:
    """A program on a terminal of 70 x 30 characters. `output` is what it has written so far."""

    def __init__(self, words, folder, **environment):
        self._ours, self._theirs = pty.openpty()
        self.resize(70)
        self._bytes = b""
        self.popen = subprocess.Popen(words, cwd=folder, stdin=self._theirs, stdout=self._theirs, stderr=self._theirs,
                                      env={**testing.environment(), "TERM": "xterm", "NO_COLOR": "1",
                                           "LC_ALL": "C.UTF-8", **environment})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.popen.kill()
        self.popen.wait()
        os.close(self._ours)
        os.close(self._theirs)

    def resize(self, columns):
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))

    @property
    def output(self):
        while select.select([self._ours], [], [], 0.02)[0]:
            self._bytes += os.read(self._ours, 65536)
        return self._bytes.decode(errors="replace")

    def pictures(self):
        """What was drawn each time, as lines without escape sequences."""
        return [re.sub(r"\x1b\[[\d;]*[A-Za-z]", "", part).splitlines() for part in self.output.split("\x1b[H")[1:]]

    def wait_for_picture(self, number):
        end = time.monotonic() + 20
        while not any("samples/s" in line for picture in self.pictures()[number - 1:] for line in picture[-1:]):
            assert self.popen.poll() is None and time.monotonic() < end, self.output
        return self.pictures()[number - 1]


class WatchTest(FollowingTestCase):
    def test_a_line_per_epoch_in_a_pipe(self):
        words = testing.command("dtrain-eval", "run", "--watch")
        fingerprints = [f"{number:016x}"
                        for number in testing.read_h5(self.complete / "log.h5").datasets["/epochs/fingerprint"]]
        with testing.Process(words, self.folder) as process:
            process.wait_until(lambda: "waiting for run/log.h5" in process.result().stderr)
            (self.folder / "run").mkdir()
            self.put(self.stopped / "log.h5")
            process.wait_for(rf"(?m)^epoch *{self.epochs}/1000000  train cost .*  weights {fingerprints[-2]}$")
            (self.folder / "run/log.h5").write_bytes(b"damaged")
            process.wait_until(lambda: "waiting for another log" in process.result().stderr)
            (self.folder / "run/log.h5").unlink()
            process.wait_until(lambda: process.result().stderr.count("waiting for run/log.h5") == 2)
            self.put(self.complete / "log.h5")
            result = process.wait(20)
        self.assertEqual(result.code, 0, result)
        self.assertEqual(len(result.messages()), 3, result)
        self.assertEqual(re.findall(r"(?m)^epoch .* weights (\w+)$", result.stdout), fingerprints)
        self.assertEqual(result.stdout.count("\n"), self.last)
        self.assertNotIn("\x1b", result.stdout)
        again = testing.run("dtrain-eval", self.complete / "log.h5", "--watch")
        self.assertEqual(again.stdout.splitlines()[-1], result.stdout.splitlines()[-1])

    def test_a_run_that_has_begun_again(self):
        (self.folder / "run").mkdir()
        self.put(self.complete / "log.h5")
        with testing.Process(testing.command("dtrain-eval", "run", "--watch"), self.folder) as process:
            self.assertEqual(process.wait(20).stdout.count("\n"), self.last)
        self.put(self.stopped / "log.h5")
        with testing.Process(testing.command("dtrain-eval", "run", "--watch"), self.folder) as process:
            process.wait_for(rf"epoch *{self.epochs}/")
            fresh = self.train({**SETTINGS, "training.epochs": 1}, output="fresh").folder
            self.put(fresh / "log.h5")
            result = process.wait(20)
        self.assertRegex(result.stdout.splitlines()[-1], "^epoch 1/1 ")

    def test_curves_on_a_terminal(self):
        for encoding, marks in ("C.UTF-8", "\u2800-\u28ff│└"), ("C", "*o|+"):
            with self.case(encoding):
                (self.folder / "run").mkdir()
                self.put(self.stopped / "log.h5")
                words = testing.command("dtrain-eval", "run", "--watch")
                with Terminal(words, self.folder, LC_ALL=encoding) as terminal:
                    picture = terminal.wait_for_picture(1)
                    terminal.resize(50)
                    narrow = terminal.wait_for_picture(2)
                    self.put(self.complete / "log.h5")
                    self.assertEqual(terminal.popen.wait(20), 0)
                    last = terminal.pictures()[2]
                    output = terminal.output
                self.assertEqual(picture[0], f"run  epoch {self.epochs} of 1000000")
                self.assertEqual(last[0], f"run  epoch {self.last} of {self.last}")
                for lines, columns in ((picture, 70), (narrow, 50), (last, 50)):
                    self.assertLess(len(lines), 30)
                    self.assertLessEqual(max(map(len, lines)), columns, lines)
                    self.assertEqual(sum(line.startswith(("cost", "accuracy, %")) for line in lines), 2)
                    self.assertRegex("".join(lines), f"[{marks}]{{5}}")
                    self.assertRegex(lines[-2], r"^epoch +\d+/\d+ .*accuracy")
                    self.assertRegex(lines[-1], r"^(complete|about [\d:]+ left)  \S+ \w? ?samples/s")
                self.assertEqual(output.isascii(), encoding == "C")
                self.assertNotRegex(output, r"\x1b\[\d*m")

    def test_colours_and_interrupt(self):
        with Terminal(testing.command("dtrain-eval", self.stopped, "--watch"), self.folder, NO_COLOR="") as terminal:
            terminal.wait_for_picture(1)
            self.assertIn("\x1b[36m", terminal.output)
            terminal.popen.send_signal(signal.SIGINT)
            self.assertEqual(terminal.popen.wait(10), -signal.SIGINT)

    def test_bad_arguments(self):
        for arguments in (["--best"], ["--show", "1"], ["--record", "x.h5"], ["--images", "x"], ["--wrong"]):
            with self.subTest(arguments):
                self.assert_usage_error("dtrain-eval", self.stopped, "--watch", *arguments, word="--watch takes")
        (self.folder / "notes.txt").touch()
        self.assert_refused("dtrain-eval", "notes.txt", "--watch", code=testing.EXIT_BAD_CONFIG, words=["notes.txt"])
        with open("/dev/full", "wb") as full:
            done = subprocess.run(testing.command("dtrain-eval", self.stopped, "--watch"), stdout=full,
                                  stderr=subprocess.DEVNULL, timeout=20)
        self.assertEqual(done.returncode, testing.EXIT_BAD_OUTPUT)


if __name__ == "__main__":
    testing.main()
