#pragma once

#include "dtrain/data/source.hpp"

#include <memory>

namespace dtrain::data {

/// The four IDX files of a folder, named as MNIST's (idx_files.hpp).
std::unique_ptr<Source> make_idx_source(SourceSettings settings);
/// Digits that are drawn instead of read: images of 28 × 28 bytes, as MNIST's, 60,000 for training and 10,000 for
/// tests, or as many as the limits say. Each sample is a pure function of (which set, its number), the same bits on
/// every x86, so that ranks draw theirs by themselves. The seed of a model has no part in it, nor has a set's size.
std::unique_ptr<Source> make_synthetic_source(SourceSettings settings);

} // namespace dtrain::data
