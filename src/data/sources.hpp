#pragma once

#include "dtrain/data/source.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace dtrain::data {

/// Throws core::Error (bad_data) with the message "PLACE: problem" unless all labels are below `classes`. The first
/// label is that of sample number `first`.
void require_classes(std::span<const std::uint8_t> labels, std::int64_t first, std::size_t classes,
                     std::string_view place);

/// Four IDX files in a folder, with MNIST's file names (idx_files.hpp).
std::unique_ptr<Source> make_idx_source(SourceSettings settings);
/// One HDF5 file with the datasets /train/samples, /train/labels, /test/samples and /test/labels. Samples are bytes or
/// float32, labels any integers. Each rank reads its own samples. The hash of a set is the sum of the samples' hashes,
/// so every rank hashes what it reads.
std::unique_ptr<Source> make_hdf5_source(SourceSettings settings);
/// Synthetic digits, generated instead of read from files. Images have 28 × 28 bytes as in MNIST. Without limits there
/// are 60,000 training samples and 10,000 test samples. Each sample is a pure function of (set, its number), bitwise
/// identical on every x86, so each rank generates its own samples. The seed of the model and the size of the set do not
/// matter.
std::unique_ptr<Source> make_synthetic_source(SourceSettings settings);

} // namespace dtrain::data
