"""What the system tests share, by the one name `testing`: configs, a small data set, running the programs, reading
what they write, and the class that tests are derived from. One module for each; tests import this package alone.

Environment: DTRAIN_BIN (folder with the programs), DTRAIN_MPIRUN (path of mpirun), DTRAIN_SOURCE (root of the
repository), DTRAIN_MNIST (folder with the real data set, optional), and DTRAIN_LONG (if set, tests of what has to hold
for every config and at every moment try many more of them; they then take many minutes).
"""

from .configs import CASES, DEEP, DISTORTED, RELU_CROSS_ENTROPY, ini, splits_of
from .constants import (BIN, EXIT_BAD_CHECKPOINT, EXIT_BAD_CONFIG, EXIT_BAD_DATA, EXIT_BAD_OUTPUT, EXIT_DIVERGED,
                        EXIT_OK, EXIT_RANK_LOST, EXIT_STOPPED, LONG, MNIST, MPIRUN, SOURCE, TIMEOUT_SECONDS)
from .data_sets import FILE_NAMES, TEST_SAMPLES, TRAIN_SAMPLES, find_idx, idx_bytes, read_idx, write_dataset
from .files import newest_step, read_h5, snapshot
from .programs import Process, Result, command, environment, run
from .test_case import BAD_INPUT_RANKS, DtrainTestCase, Training, main
