"""Paths, and the meaning of the programs' exit codes."""

import os
from pathlib import Path

SOURCE = Path(os.environ.get("DTRAIN_SOURCE", Path(__file__).resolve().parents[3]))
BIN = Path(os.environ.get("DTRAIN_BIN", SOURCE / "build/release/bin"))
MPIRUN = os.environ.get("DTRAIN_MPIRUN", "mpirun")
MNIST = os.environ.get("DTRAIN_MNIST")
LONG = bool(os.environ.get("DTRAIN_LONG"))
TIMEOUT_SECONDS = 900 if LONG else 60

EXIT_OK = 0
EXIT_BAD_CONFIG = 2
EXIT_BAD_DATA = 3
EXIT_BAD_CHECKPOINT = 4
EXIT_DIVERGED = 5
EXIT_BAD_OUTPUT = 6
EXIT_RANK_LOST = 7
EXIT_STOPPED = 75
