"""dtrain-report: writes one HTML page about runs, networks and scaling experiments. CMake creates its launcher."""

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


def parse(words, version):
    parser = argparse.ArgumentParser(
        PROGRAM, description="Writes one self-contained HTML page about runs or scaling experiments.",
        epilog="exit codes: 0 done, 1 nothing could be shown, 2 bad command line or a missing Python module, 6 cannot "
               "write output")
    parser.add_argument("run", nargs="+", type=Path, metavar="RUN",
                        help="output folder of a run, log.h5, checkpoint, folder of checkpoints, or file of a scaling "
                             "experiment; one run: the page also shows the network; several runs: it overlays curves")
    parser.add_argument("-o", "--output", type=Path, default=Path("report.html"), metavar="FILE",
                        help="the page to write (default: %(default)s)")
    parser.add_argument("--eval", metavar="PROGRAM",
                        help="path of dtrain-eval (default: next to this program, or on the PATH)")
    parser.add_argument("--version", action="version", version=version, help="print the version")
    return parser.parse_args(words)


def is_report(path):
    """Whether dtrain-report wrote the file. Early versions wrote no mark."""
    with open(path, "rb") as file:
        return MARK.encode() in file.read(4096)


def write(path, text):
    """Replaces `path` completely, or leaves it unchanged."""
    # errors="replace": file names in the text need not be valid UTF-8.
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


def main(words, folder, version):
    """`folder` contains the other programs."""
    guard_output(PROGRAM)
    arguments = parse(words, version)
    with needing(PROGRAM, "python3-h5py", "python3-matplotlib", "python3-jinja2"):  # --help needs none of them
        import page
        import runs
        from hdf5 import Unreadable
        from progress import Progress
    evaluator = arguments.eval or shutil.which("dtrain-eval", path=folder) or shutil.which("dtrain-eval")
    try:
        if arguments.output.exists() and not (arguments.output.is_file() and is_report(arguments.output)):
            fail(PROGRAM, EXIT_BAD_OUTPUT, f"{arguments.output} exists and is not a page of dtrain-report, which "
                                           "replaces only its own pages. Choose another name, or remove the file")
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
        except OSError as error:  # for example, the name is too long, or a folder is not accessible
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
