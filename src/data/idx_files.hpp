#pragma once

#include "dtrain/data/source.hpp"

#include <filesystem>

namespace dtrain::data {

struct SetFiles {
    std::filesystem::path samples;
    std::filesystem::path labels;
};

/// The folder with the files of a data set, for the value `directory` of a config. This is `directory` itself, the
/// folder MNIST/raw or raw in it (as torchvision creates), or, if `directory` names one of the files, the folder of
/// that file. If none of these has such files, returns `directory`. Ignores errors of the file system.
[[nodiscard]] std::filesystem::path find_data_folder(const std::filesystem::path& directory);

/// The files of a set in that folder, with MNIST's names: train-images-idx<2 to 8>-<ubyte or float> and
/// train-labels-idx1-ubyte, or t10k instead of train. Kaggle's spellings are accepted too: ".idx" instead of "-idx", or
/// a file inside a folder of the same name. Files may be compressed (.gz). If several spellings exist, the usual name
/// comes first, and plain comes before compressed. Throws core::Error (bad_data) if a file is missing or if there are
/// two files of samples with different names.
[[nodiscard]] SetFiles find_files(const std::filesystem::path& directory, Set set);

} // namespace dtrain::data
