"""dtrain-report: makes one HTML page about runs, networks and scaling experiments. CMake creates its launcher."""

import argparse
import os
import shutil
import sys
from pathlib import Path

import output_file
from program import end_by_signals, guard_output, needing

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
                             "experiment; one run: the page also holds the network, to draw digits for; several runs: "
                             "it overlays curves")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="the page to write (default: report.html)")
    parser.add_argument("--live", action="store_true",
                        help="writes no file, but serves the page on 127.0.0.1 and follows the runs, which need not "
                             "have begun: curves follow every epoch, results of the network at most every minute; "
                             "prints the address, and how to reach it through ssh; ends with Ctrl-C")
    parser.add_argument("--port", type=port, metavar="N",
                        help="with --live: the port, from 1024 to 65535 (default: the system chooses a free one)")
    parser.add_argument("--eval", metavar="PROGRAM",
                        help="path of dtrain-eval (default: next to this program, or on the PATH)")
    parser.add_argument("--data", metavar="SET",
                        help="with one run: evaluates it on the test set of this data set, a folder of IDX files or an "
                             "HDF5 file (default: the data set of its config)")
    parser.add_argument("--version", action="version", version=version, help="print the version")
    arguments = parser.parse_args(words)
    if arguments.live and arguments.output:
        parser.error("--live writes no file, so it takes no --output")
    if arguments.port and not arguments.live:
        parser.error("--port needs --live")
    if arguments.data and len(arguments.run) > 1:
        parser.error("--data needs a single run")
    arguments.output = arguments.output or Path("report.html")
    return arguments


def port(text):
    if not (text.isascii() and text.isdecimal() and 1024 <= int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text}: expected a port from 1024 to 65535")
    return int(text)


def is_report(path):
    """Whether dtrain-report wrote the file. Early versions wrote no mark."""
    with open(path, "rb") as file:
        return MARK.encode() in file.read(4096)


def main(words, folder, version):
    """`folder` contains the other programs."""
    guard_output(PROGRAM)
    end_by_signals()
    arguments = parse(words, version)
    # --help needs none of these
    with needing(PROGRAM, "python3-h5py", "python3-matplotlib", "python3-jinja2", "python3-xxhash"):
        import page
        import runs
        from hdf5 import Unreadable
        from progress import Progress
    evaluator = arguments.eval or shutil.which("dtrain-eval", path=folder) or shutil.which("dtrain-eval")
    if evaluator:  # it is started in the folder that the paths in a config start from
        evaluator = [os.path.abspath(evaluator) if "/" in evaluator else evaluator]
        if arguments.data:
            evaluator += ["--data", os.path.abspath(arguments.data)]
    if arguments.live:
        import live
        return live.serve(PROGRAM, arguments.run, evaluator, arguments.port or 0)
    output_file.require_replaceable(PROGRAM, arguments.output, is_report, "a page")
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
    # errors="replace": file names in the text need not be valid UTF-8.
    output_file.write(PROGRAM, arguments.output, html.encode(errors="replace"))
    print(f"{arguments.output}: {arguments.output.stat().st_size / 1e3:,.0f} kB")
    return 0
