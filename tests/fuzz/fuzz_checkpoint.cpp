// A file taken for a checkpoint, then for a log. With REPAIR_DIGEST the input is given the digest that it should have
// had, so that what lies behind that check is reached.

#include "dtrain/config/config.hpp"
#include "dtrain/core/error.hpp"
#include "dtrain/core/hash.hpp"
#include "dtrain/io/checkpoint.hpp"
#include "dtrain/io/hdf5.hpp"
#include "dtrain/io/run_record.hpp"
#include "dtrain/nn/layer.hpp"
#include "dtrain/nn/parameters.hpp"

#include "memory_file.hpp"
#include "require.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using namespace dtrain;

void expect_bad_checkpoint(const std::function<void()>& action) {
    try {
        action();
    } catch (const core::Error& error) {
        require(error.code() == core::ExitCode::bad_checkpoint, "a bad file is a bad checkpoint");
    }
}

void repair_digest(std::vector<std::byte>& file) {
    constexpr std::size_t user_block_bytes = 512;
    if (file.size() > user_block_bytes) {
        const std::string label = "dtrain: XXH3-128 of everything after these 512 bytes: " +
                                  core::hash128(std::span(file).subspan(user_block_bytes)) + "\n";
        std::ranges::copy(std::as_bytes(std::span(label)), file.begin());
    }
}

/// As dtrain-eval and a resumed run do.
void read_checkpoint(const std::vector<std::byte>& file) {
    const MemoryFile stored(file);
    const io::Checkpoint checkpoint(stored.path());
    nn::ParameterLayout layout;
    try {
        const config::Config config = config::parse(checkpoint.info().config, "checkpoint");
        (void)nn::make_layers<float>(config.model.layers, checkpoint.info().sample_shape, layout);
    } catch (const core::Error&) {
        return;
    } catch (const std::invalid_argument&) {
        return;
    }
    for (const nn::Tensor& tensor : layout.tensors()) {
        if (tensor.size <= file.size()) {
            std::vector<float> values(tensor.size);
            const io::TensorView view{"/model/" + tensor.name, tensor.shape, values};
            checkpoint.read({&view, 1});
        }
    }
}

/// As a resumed run does.
void read_log(const std::vector<std::byte>& file) {
    io::RankSeconds seconds = io::RankSeconds::from(io::Hdf5Image(file, "log.h5"));
    seconds.resize(3);
    seconds.add_epoch(2, {1, 2}, {1, 2}, {1, 2});
}

void read_all(const io::Hdf5Image& image, const std::string& group, int depth) {
    for (const std::string& name : image.members(group)) {
        const std::string path = group + "/" + name;
        require(image.has(path), "what a group lists is there");
        expect_bad_checkpoint([&] { (void)image.values<float>(path); });
        expect_bad_checkpoint([&] { (void)image.values<double>(path); });
        expect_bad_checkpoint([&] { (void)image.values<std::uint64_t>(path); });
        if (depth < 2) {
            expect_bad_checkpoint([&] { read_all(image, path, depth + 1); });
        }
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto input = std::as_bytes(std::span(data, size));
    std::vector<std::byte> file(input.begin(), input.end());
#ifdef REPAIR_DIGEST
    repair_digest(file);
#else
    (void)repair_digest;
#endif
    expect_bad_checkpoint([&] { read_checkpoint(file); });
    expect_bad_checkpoint([&] { read_log(file); });
    expect_bad_checkpoint([&] { read_all(io::Hdf5Image(file, "file.h5"), "", 0); });
    return 0;
}
