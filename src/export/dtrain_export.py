"""dtrain-export: writes a trained network for other programs. CMake creates its launcher."""

import argparse
import importlib
import sys
from pathlib import Path

import output_file
from program import EXIT_BAD_OUTPUT, EXIT_USAGE, end_by_signals, fail, guard_output, needing

PROGRAM = "dtrain-export"
EXIT_BAD_CHECKPOINT = 4
# Suffix of the file: the module that encodes it, how messages name it, and Debian's packages that the module needs.
FORMATS = {".onnx": ("onnx_file", "an ONNX file", ["python3-onnx"]),
           ".safetensors": ("safetensors_file", "a safetensors file", [])}


def parse(words, version):
    parser = argparse.ArgumentParser(
        PROGRAM, description="Writes the network of a run as an ONNX file, or its weights as a safetensors file.",
        epilog="exit codes: 0 done, 2 bad command line or a missing Python module, 4 bad checkpoint, 6 cannot write "
               "output")
    parser.add_argument("run", type=Path, metavar="RUN",
                        help="output folder of a run or folder of checkpoints (the newest valid checkpoint is used), "
                             "or a checkpoint")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE",
                        help="the file to write: its name ends with .onnx (the network, for ONNX Runtime, OpenCV and "
                             "others) or .safetensors (the weights, for PyTorch and others)")
    parser.add_argument("--best", action="store_true",
                        help="uses the checkpoint of a run with the best score, checkpoints/best.h5")
    parser.add_argument("--version", action="version", version=version, help="print the version")
    return parser.parse_args(words)


def main(words, _, version):
    guard_output(PROGRAM)
    end_by_signals()
    arguments = parse(words, version)
    output = arguments.output
    if output.suffix not in FORMATS:
        fail(PROGRAM, EXIT_USAGE, f"-o {output}: the name must end with {' or '.join(FORMATS)}")
    module, own, packages = FORMATS[output.suffix]
    with needing(PROGRAM, "python3-h5py", "python3-xxhash", *packages):  # --help needs none of them
        import network
        from facts import TooLarge
        from hdf5 import Unreadable
        encoder = importlib.import_module(module)
    output_file.require_replaceable(PROGRAM, output, encoder.is_own, own)
    try:
        found, checkpoint = network.read(arguments.run, arguments.best,
                                         lambda text: print(f"{PROGRAM}: warning: {text}", file=sys.stderr))
    except Unreadable as error:
        fail(PROGRAM, EXIT_BAD_CHECKPOINT, error)
    except OSError as error:  # for example, the name is too long, or a folder is not accessible
        fail(PROGRAM, EXIT_BAD_CHECKPOINT, f"{arguments.run}: {error.strerror}")
    try:
        contents = encoder.encode(found, version.removeprefix("dtrain "))
    except TooLarge as error:
        fail(PROGRAM, EXIT_BAD_OUTPUT, error)
    output_file.write(PROGRAM, output, contents)
    print(f"{output}: {found.parameters:,} parameters of {checkpoint}, {output.stat().st_size / 1e3:,.0f} kB")
    if found.is_rounded:
        print("dtrain computes this network in bfloat16. Other programs compute the file in float32, so outputs may "
              "differ slightly.")
    return 0
