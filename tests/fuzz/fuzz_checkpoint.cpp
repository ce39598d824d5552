// Reads a file as a checkpoint, as dtrain-eval does, and as a log, as a resumed run does. The input is the index of the
// file, in today's format or in the previous one without digests of pieces. The target computes the index's own digest,
// so that the code after that check is reached. It appends data whose bytes are all equal. So the digests in the seeds
// match wherever a piece is looked for.

#include "dtrain/io/checkpoint.hpp"
#include "dtrain/io/hdf5.hpp"
#include "dtrain/io/run_record.hpp"
#include "dtrain/model/saved_network.hpp"

#include "fuzzing.hpp"
#include "support/products.hpp"
#include "support/sealed.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using namespace dtrain;
using fuzzing::require;

const std::string& some_data() {
    static const std::string data(std::size_t{1} << 15, '?'); // must be the same in seeds.cpp
    return data;
}

void read_checkpoint(std::size_t file_bytes, const io::Checkpoint& checkpoint) {
    const io::CheckpointInfo& info = checkpoint.info();
    const io::RunRecord::Epochs& epochs = info.record.epochs;
    require(info.epoch == static_cast<std::int64_t>(epochs.size()) &&
                info.step == static_cast<std::int64_t>(info.record.step_cost.size()),
            "a checkpoint's counts match its record");
    std::size_t bytes = 2 * info.record.step_cost.size() * sizeof(float) + 10 * epochs.size() * sizeof(double);

    const nn::Network<float> network = model::network_of(checkpoint, support::products());
    bytes += network.layout().parameter_count() * sizeof(float);
    require(bytes <= file_bytes, "memory is allocated only for contents that the file has");
    std::vector<float> parameters(network.layout().arena_size());
    std::vector<io::TensorView> tensors;
    for (const nn::Tensor& tensor : network.layout().tensors()) {
        tensors.push_back({"/model/" + tensor.name, tensor.shape, tensor.in(std::span(parameters))});
    }
    checkpoint.read(tensors); // network_of has compared the shapes
}

void read_log(const std::vector<std::byte>& file) {
    io::RankSeconds seconds = io::RankSeconds::from(io::Hdf5Image(file, "log.h5"));
    require(4 * seconds.epochs * seconds.ranks * sizeof(double) <= file.size(),
            "memory is allocated only for contents that the file has");
    seconds.resize(3);
    seconds.add_epoch(std::vector<io::PhaseSeconds>(2));
}

template <class Action>
void expect_success_or_refusal(Action&& action) {
    try {
        action();
    } catch (const core::Error& error) {
        fuzzing::require_refusal(error, core::ExitCode::bad_checkpoint);
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string contents = std::string(reinterpret_cast<const char*>(data), size) + some_data();
    static fuzzing::MemoryFile stored;
    for (const std::string_view label : {support::label_2, support::label_3}) {
        const std::vector<std::byte> file = support::sealed(contents, label);
        stored.write(file);
        expect_success_or_refusal([&] { read_checkpoint(file.size(), io::Checkpoint(stored.path())); });
        expect_success_or_refusal([&] { read_log(file); });
    }
    return 0;
}
