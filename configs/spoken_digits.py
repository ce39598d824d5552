#!/usr/bin/env -S sh -c 'exec "${DTRAIN_PYTHON:-/usr/bin/python3}" -E "$0" "$@"'
"""Makes a data set of spoken digits, as sequences for recurrent networks: configs/spoken_digits.py [FOLDER].

espeak-ng (Debian package: espeak-ng) speaks the words zero to nine in eight English accents and 35 voices, at many
speeds and pitches. Each recording is stretched or compressed and starts at a random time within the one second of its
sample. Noise is added, at signal-to-noise ratios from 0 to 30 dB. All accents occur in both sets. The test set has its
own voices, m4, m8 and f3, which do not occur in the training set.

A sample is 40 frames x 24 mel bands of float32: the logarithm of the energy between 100 and 8000 Hz, every 25 ms. Each
band is normalized to mean 0 and standard deviation 1 over the training set. The files are IDX, under the names that
dtrain expects. They depend only on --seed, the numbers of samples, and the versions of espeak-ng and NumPy.
"""

import argparse
import multiprocessing
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src/report"))
from program import guard_output, needing  # noqa: E402

PROGRAM = "spoken_digits.py"

with needing(PROGRAM, "python3-numpy"):
    import numpy as np

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ACCENTS = ("en-gb", "en-us", "en-us-nyc", "en-029", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd")
VOICES = {
    "train": ("m1", "m2", "m3", "m5", "m6", "m7", "f1", "f2", "f4", "f5", "adam", "Alex", "Andy", "Annie", "belinda",
              "benjamin", "boris", "david", "edward", "grandma", "grandpa", "Jacky", "Lee", "linda", "Michael", "paul",
              "quincy", "rob", "steph", "travis", "victor", "zac"),
    "t10k": ("m4", "m8", "f3"),
}

RATE = 22050  # samples per second in the output of espeak-ng
FRAMES, BANDS = 40, 24
HOP = round(0.025 * RATE)
WINDOW = 1024
LENGTH = (FRAMES - 1) * HOP + WINDOW
LOW_HZ, HIGH_HZ = 100, 8000


def mel_filters():
    """Triangles evenly spaced in mel (O'Shaughnessy 1987): bands x bins of the spectrum."""
    def mel(hz):
        return 2595 * np.log10(1 + hz / 700)

    corners = 700 * (10 ** (np.linspace(mel(LOW_HZ), mel(HIGH_HZ), BANDS + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(WINDOW, 1 / RATE)
    rising = (bins - corners[:-2, None]) / (corners[1:-1] - corners[:-2])[:, None]
    falling = (corners[2:, None] - bins) / (corners[2:] - corners[1:-1])[:, None]
    return np.maximum(np.minimum(rising, falling), 0)


FILTERS = mel_filters()


def speak(word, accent, voice, speed, pitch):
    """The recording by espeak-ng, from -1 to 1, without silence at its ends."""
    command = ["espeak-ng", "--stdout", "-v", f"{accent}+{voice}", "-s", str(speed), "-p", str(pitch), word]
    wave = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    # The header has 44 bytes; its lengths are invalid when written to a pipe. Samples have 16 bits.
    if wave[:4] != b"RIFF" or struct.unpack_from("<I", wave, 24)[0] != RATE:
        raise RuntimeError(f"{' '.join(command)}: expected a recording with {RATE} samples per second")
    sound = np.frombuffer(wave[44:len(wave) // 2 * 2], "<i2") / 32768
    loud = np.flatnonzero(np.abs(sound) > 0.01 * np.abs(sound).max())
    return sound[loud[0]:loud[-1] + 1]


def noise_of(random):
    """Noise between white and brown, of power 1."""
    spectrum = np.fft.rfft(random.standard_normal(LENGTH))
    spectrum[1:] *= np.arange(1, len(spectrum)) ** -random.uniform(0, 1)
    spectrum[0] = 0
    noise = np.fft.irfft(spectrum, LENGTH)
    return noise / np.sqrt(np.mean(noise**2))


def make_sample(arguments):
    """Label and values (frames x bands) of a sample, which depend only on (seed, part, number)."""
    seed, part, number = arguments
    random = np.random.default_rng((seed, list(VOICES).index(part), number))
    label = number % len(WORDS)
    sound = speak(WORDS[label], random.choice(ACCENTS), random.choice(VOICES[part]), random.integers(110, 231),
                  random.integers(15, 86))
    length = min(round(len(sound) * random.uniform(0.8, 1.25)), round(0.95 * LENGTH))
    sound = np.interp(np.linspace(0, len(sound) - 1, length), np.arange(len(sound)), sound)

    power = np.mean(sound**2)
    recording = noise_of(random) * np.sqrt(power / 10 ** (random.uniform(0, 30) / 10))
    start = random.integers(0, LENGTH - length + 1)
    recording[start:start + length] += sound
    recording *= random.uniform(0.3, 1) / np.abs(recording).max()

    frames = np.lib.stride_tricks.sliding_window_view(recording, WINDOW)[::HOP] * np.hanning(WINDOW)
    energy = np.abs(np.fft.rfft(frames)) ** 2 @ FILTERS.T
    return label, np.log(energy + 1e-6)


def make_part(part, samples, seed, pool):
    labels, sequences = np.empty(samples, np.uint8), np.empty((samples, FRAMES, BANDS))
    tasks = ((seed, part, number) for number in range(samples))
    for number, (label, sequence) in enumerate(pool.imap(make_sample, tasks, chunksize=20)):
        labels[number], sequences[number] = label, sequence
        done = number + 1
        if done == samples or done % (50 if sys.stderr.isatty() else 2000) == 0:
            end = "\n" if done == samples or not sys.stderr.isatty() else ""
            print(f"\r{part}: {done} of {samples} samples", end=end, file=sys.stderr, flush=True)
    return labels, sequences


def write_idx(path, code, array):
    unfinished = path.with_name(path.name + ".tmp")
    unfinished.write_bytes(struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape) + array.tobytes())
    unfinished.replace(path)


def main():
    guard_output(PROGRAM)
    parser = argparse.ArgumentParser(description="Makes a data set of spoken digits with espeak-ng.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("data/spoken-digits"), help="default: %(default)s")
    parser.add_argument("--train", type=int, default=12000, metavar="SAMPLES", help="default: %(default)s")
    parser.add_argument("--test", type=int, default=2000, metavar="SAMPLES", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    arguments = parser.parse_args()
    if min(arguments.train, arguments.test) < 1 or arguments.seed < 0:
        parser.error("--train and --test must be at least 1, and --seed at least 0")
    if shutil.which("espeak-ng") is None:
        sys.exit(f"{PROGRAM}: espeak-ng is missing: apt-get install espeak-ng")

    arguments.folder.mkdir(parents=True, exist_ok=True)
    with multiprocessing.Pool(len(os.sched_getaffinity(0))) as pool:
        parts = {part: make_part(part, samples, arguments.seed, pool)
                 for part, samples in (("train", arguments.train), ("t10k", arguments.test))}
    mean = parts["train"][1].mean(axis=(0, 1))
    deviation = parts["train"][1].std(axis=(0, 1))
    for part, (labels, sequences) in parts.items():
        write_idx(arguments.folder / f"{part}-images-idx3-float", 0x0D, ((sequences - mean) / deviation).astype(">f4"))
        write_idx(arguments.folder / f"{part}-labels-idx1-ubyte", 0x08, labels)
    print(f"The spoken digits are in {arguments.folder}.")


if __name__ == "__main__":
    main()
