"""dtrain-report: one page about runs, networks and scaling experiments. Its launcher is made by CMake."""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from program import EXIT_BAD_OUTPUT, fail, guard_output, needing

PROGRAM = "dtrain-report"
EXIT_NOTHING_SHOWN = 1
MARK = '<meta name="generator" content="dtrain-report">'  # of report.html.j2

with needing(PROGRAM, "python3-h5py", "python3-matplotlib", "python3-jinja2"):
    import page
    import runs
    from hdf5 import Unreadable
    from progress import Progress


def parse(words):
    parser = argparse.ArgumentParser(
        PROGRAM, description="Writes one HTML page, which needs no other file, about runs or scaling experiments.")
    parser.add_argument("run", nargs="+", type=Path, metavar="RUN",
                        help="output folder of a run, a log.h5, a checkpoint or a folder of them, or the file of a "
                             "scaling experiment; of one run the page shows the network too, of several their "
                             "curves together")
    parser.add_argument("-o", "--output", type=Path, default=Path("report.html"), metavar="FILE",
                        help="the page (default: %(default)s)")
    parser.add_argument("--eval", metavar="PROGRAM", help="dtrain-eval, where it is neither beside this program nor "
                                                          "on the PATH")
    return parser.parse_args(words)


def is_report(path):
    """Whether dtrain-report wrote the file; versions up to 0.1 left no mark."""
    with open(path, "rb") as file:
        return MARK.encode() in file.read(4096)


def write(path, text):
    """Replaces `path` as a whole, or leaves it as it is."""
    # Names need not be UTF-8; a page is.
    file = tempfile.NamedTemporaryFile("w", encoding="utf-8", errors="replace", dir=path.parent, prefix=f".{PROGRAM}.",
                                       delete=False)
    try:
        with file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(file.name, 0o666 & ~mask)
        os.replace(file.name, path)
    except BaseException:
        os.unlink(file.name)
        raise


def fail_to_write(path, error):
    fail(PROGRAM, EXIT_BAD_OUTPUT, f"cannot write {path}: {error.strerror}")


def main(words, folder):
    """`folder` is where the other programs are."""
    guard_output(PROGRAM)
    arguments = parse(words)
    evaluator = arguments.eval or shutil.which("dtrain-eval", path=folder) or shutil.which("dtrain-eval")
    try:
        if arguments.output.exists() and not (arguments.output.is_file() and is_report(arguments.output)):
            fail(PROGRAM, EXIT_BAD_OUTPUT, f"{arguments.output} is there already and is no page of dtrain-report, "
                                           "which replaces nothing else; choose another name, or remove it")
    except OSError as error:
        fail_to_write(arguments.output, error)
    progress = Progress(PROGRAM)
    shown, problems = [], []
    for path in arguments.run:
        progress.doing(f"reading {path}")
        try:
            shown.append(runs.read(path))
        except Unreadable as error:
            problems.append(str(error))
        except OSError as error:  # of a name that is too long, say, or a folder that may not be searched
            problems.append(f"{path}: {error.strerror}")
    if shown:
        runs.name_all(shown)
        html = page.render(shown, problems, evaluator, progress)
    progress.end()
    for problem in problems:
        print(f"{PROGRAM}: {problem}", file=sys.stderr)
    if not shown:
        return EXIT_NOTHING_SHOWN
    try:
        write(arguments.output, html)
    except OSError as error:
        fail_to_write(arguments.output, error)
    print(f"{arguments.output}: {arguments.output.stat().st_size / 1e3:,.0f} kB")
    return 0
