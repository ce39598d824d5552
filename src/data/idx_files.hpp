#pragma once

#include "dtrain/data/source.hpp"

#include <filesystem>

namespace dtrain::data {

struct SetFiles {
    std::filesystem::path samples;
    std::filesystem::path labels;
};

/// The folder that holds the files of a data set if `directory` is given for it: itself, what torchvision makes in it
/// (MNIST/raw), or of one of the files the folder that it lies in. Where none has any, `directory`. Throws nothing of
/// the file system's.
[[nodiscard]] std::filesystem::path find_data_folder(const std::filesystem::path& directory);

/// The files of a set there, named as MNIST's: train-images-idx<2 to 8>-<ubyte or float> and train-labels-idx1-ubyte,
/// or the same with t10k. Each may be spelled as Kaggle has it, with ".idx" or in a folder of its own name, and be
/// compressed (.gz); of several spellings the one that comes first counts: the usual name before the other, plain
/// before compressed. Throws core::Error (bad_data) if there is none, or if there are samples of two kinds.
[[nodiscard]] SetFiles find_files(const std::filesystem::path& directory, Set set);

} // namespace dtrain::data
