"""Shared code of the system tests, imported by the single name `testing`: configs, a small data set, running programs,
reading what they write, and the base class of the tests. Each subject has a module. Tests import only this package.

Environment: DTRAIN_BIN (folder of the programs), DTRAIN_MPIRUN (path of mpirun), DTRAIN_SOURCE (root of the
repository), DTRAIN_MNIST (folder of the real data set, optional), and DTRAIN_LONG (if set, the long forms: tests of
properties of every config and every moment try many more of them, which takes many minutes).
"""

from .configs import CASES, DEEP, DISTORTED, RELU_CROSS_ENTROPY, ini, splits_of
from .constants import (BIN, EXIT_BAD_CHECKPOINT, EXIT_BAD_CONFIG, EXIT_BAD_DATA, EXIT_BAD_OUTPUT, EXIT_DIVERGED,
                        EXIT_OK, EXIT_RANK_LOST, EXIT_STOPPED, LONG, MNIST, MPIRUN, SOURCE, TIMEOUT_SECONDS)
from .data_sets import FILE_NAMES, TEST_SAMPLES, TRAIN_SAMPLES, find_idx, idx_bytes, read_idx, write_dataset
from .files import newest_step, read_h5, snapshot
from .programs import (Process, Result, accept_signals, codes_of_killed_rank, command, environment, is_open_mpi,
                       report_of_killed_rank, run, starts_several_programs, without_mpi)
from .test_case import BAD_INPUT_RANKS, DtrainTestCase, Training, main
