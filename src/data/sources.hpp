#pragma once

#include "dtrain/data/source.hpp"

#include <memory>

namespace dtrain::data {

/// Four IDX files in a folder, with MNIST's file names (idx_files.hpp).
std::unique_ptr<Source> make_idx_source(SourceSettings settings);
/// Synthetic digits, generated instead of read from files. Images have 28 × 28 bytes as in MNIST. Without limits there
/// are 60,000 training samples and 10,000 test samples. Each sample is a pure function of (set, its number), bitwise
/// identical on every x86, so each rank generates its own samples. The seed of the model and the size of the set do not
/// matter.
std::unique_ptr<Source> make_synthetic_source(SourceSettings settings);

} // namespace dtrain::data
