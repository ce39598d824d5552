#include "dtrain/data/dataset_loader.hpp"

#include "dtrain/core/memory.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <functional>
#include <string>
#include <utility>

namespace dtrain::data {
namespace {

constexpr std::size_t message_bytes = std::size_t{4} << 20;

/// Collective: copies rank 0's header to all ranks.
void broadcast_header(SetHeader& header, const mpi::Communicator& communicator) {
    std::array<std::uint64_t, 3> sizes{static_cast<std::uint64_t>(header.samples),
                                       static_cast<std::uint64_t>(header.element), header.sample_shape.size()};
    communicator.broadcast(std::span(sizes));
    header.samples = static_cast<std::int64_t>(sizes[0]);
    header.element = static_cast<Element>(sizes[1]);
    header.sample_shape.resize(sizes[2]);
    communicator.broadcast(std::span(header.sample_shape));
}

/// The number of samples per message. A message must not be longer than MPI can count, and rank 0 should buffer only a
/// few samples of other ranks.
std::int64_t samples_per_message(const SetHeader& header) {
    return std::clamp<std::int64_t>(static_cast<std::int64_t>(message_bytes / header.sample_bytes()), 1,
                                    header.samples);
}

template <class Action>
void for_each_piece(core::Range samples, std::int64_t piece_samples, Action&& action) {
    for (core::Range piece{samples.begin, samples.begin}; piece.end < samples.end; piece.begin = piece.end) {
        piece.end = std::min(piece.begin + piece_samples, samples.end);
        action(piece);
    }
}

/// Called on rank 0. The ranks have ascending ranges of the set, so one pass over the file serves them in order. After
/// an error, an empty message releases the ranks that still wait. `piece` is the memory for a message.
void distribute(SetReader& reader, const Split& own, const Split& piece,
                const std::function<core::Range(int)>& samples_of, const mpi::Communicator& communicator) {
    int rank = 0;
    try {
        reader.read(samples_of(0), own.elements.values(), own.labels.values());
        for (rank = 1; rank < communicator.size(); ++rank) {
            for_each_piece(samples_of(rank), piece.local.size(), [&](core::Range samples) {
                const auto count = static_cast<std::size_t>(samples.size());
                const std::span<std::uint8_t> labels = piece.labels.values().first(count);
                const std::span<std::byte> elements = piece.elements.values().first(count * piece.sample_bytes());
                reader.read(samples, elements, labels);
                communicator.send(std::as_bytes(labels), rank);
                communicator.send(elements, rank);
            });
        }
    } catch (...) {
        for (rank = std::max(rank, 1); rank < communicator.size(); ++rank) {
            if (!samples_of(rank).empty()) {
                communicator.send({}, rank);
            }
        }
        throw;
    }
}

/// Called on the other ranks. Stops receiving after an empty message from rank 0.
void receive(const Split& own, std::int64_t piece_samples, const mpi::Communicator& communicator) {
    bool given_up = false;
    for_each_piece(own.local, piece_samples, [&](core::Range samples) {
        const auto first = static_cast<std::size_t>(samples.begin - own.local.begin);
        const auto count = static_cast<std::size_t>(samples.size());
        const std::size_t bytes = own.sample_bytes();
        given_up = given_up ||
                   communicator.receive(std::as_writable_bytes(own.labels.values().subspan(first, count)), 0) == 0 ||
                   communicator.receive(own.elements.values().subspan(first * bytes, count * bytes), 0) == 0;
    });
}

} // namespace

DatasetLoader::DatasetLoader(std::unique_ptr<const Source> source, const mpi::Communicator& communicator)
    : source_(std::move(source)), communicator_(communicator) {
    const SourceSettings& settings = source_->settings();
    mpi::together(communicator_, [&] {
        if (!reads()) {
            return;
        }
        in_turn([&] {
            for (const Set set : sets) {
                readers_.of(set) = source_->open(set);
            }
        });
        for (const Set set : sets) {
            SetHeader& header = headers_.of(set);
            header = readers_.of(set)->header();
            if (!header.labelled) {
                throw core::Error(core::ExitCode::bad_data,
                                  fmt::format("{}: the samples have no labels", source_->origin().value));
            }
            const std::int64_t limit = settings.limits.of(set);
            if (limit > header.samples) {
                throw settings.invalid(limit_key(set), fmt::format("expected at most {}, the number of samples in {}",
                                                                   header.samples, source_->origin().value));
            }
            header.samples = limit > 0 ? limit : header.samples;
        }
        if (settings.validation >= headers_.train.samples) {
            throw settings.invalid("data.validation_samples",
                                   fmt::format("expected less than {}, the number of training samples that it is a "
                                               "part of",
                                               headers_.train.samples));
        }
        headers_.train.samples -= settings.validation;
        if (headers_.train.sample_shape != headers_.test.sample_shape) {
            throw core::Error(core::ExitCode::bad_data,
                              fmt::format("{}: training samples have shape {}, but test samples have shape {}",
                                          source_->origin().value, fmt::join(headers_.train.sample_shape, " x "),
                                          fmt::join(headers_.test.sample_shape, " x ")));
        }
    });
    for (const Set set : sets) {
        const SetHeader own = headers_.of(set);
        broadcast_header(headers_.of(set), communicator_);
        mpi::together(communicator_, [&] {
            if (reads() && own != headers_.of(set)) {
                throw core::Error(core::ExitCode::bad_data,
                                  fmt::format("{}: rank {} finds other numbers or shapes of samples than rank 0. All "
                                              "ranks must see the same file",
                                              source_->origin().value, communicator_.rank()));
            }
        });
    }
    const double share_of_node = static_cast<double>(communicator_.split_by_node().size()) / communicator_.size();
    mpi::together(communicator_, [&] {
        double room = static_cast<double>(core::physical_bytes()) / share_of_node;
        for (const Set set : sets) {
            SetHeader stored = headers_.of(set);
            stored.samples += set == Set::train ? validation_samples() : 0;
            room = require_room(source_->settings(), set, stored, room);
        }
    });
}

void DatasetLoader::require_classes(std::size_t classes) const {
    mpi::together(communicator_, [&] {
        if (!reads()) {
            return;
        }
        in_turn([&] {
            for (const Set set : sets) {
                SetReader& reader = *readers_.of(set);
                reader.require_classes(classes, own_part({0, reader.header().samples}));
            }
        });
    });
}

template <class Action>
void DatasetLoader::in_turn(Action&& action) const {
    const int readers = source_->every_rank_reads() ? source_->readers_at_once() : 0;
    const auto end_turn = [&] {
        if (const int next = communicator_.rank() + readers; readers > 0 && next < communicator_.size()) {
            communicator_.send({}, next);
        }
    };
    if (readers > 0 && communicator_.rank() >= readers) {
        (void)communicator_.receive({}, communicator_.rank() - readers);
    }
    try {
        action();
    } catch (...) {
        end_turn();
        throw;
    }
    end_turn();
}

core::Range DatasetLoader::own_part(core::Range samples) const noexcept {
    if (!source_->every_rank_reads()) {
        return samples;
    }
    const core::Range part = core::partition(samples.size(), communicator_.size(), communicator_.rank());
    return {samples.begin + part.begin, samples.begin + part.end};
}

core::Range DatasetLoader::own_rest(Set set) const noexcept {
    const std::int64_t used = headers_.of(set).samples + (set == Set::train ? validation_samples() : 0);
    return own_part({used, readers_.of(set)->header().samples});
}

std::size_t DatasetLoader::reading_bytes() const {
    std::size_t bytes = 0;
    for (const Set set : sets) {
        if (reads()) {
            bytes = std::max(bytes, readers_.of(set)->reading_bytes(own_rest(set).size()));
        }
    }
    return bytes;
}

Split DatasetLoader::load(Set set, std::int64_t first, std::int64_t samples, std::int64_t shards,
                          std::span<const core::Range> shards_of_rank) {
    SetHeader header = headers_.of(set);
    header.samples = samples;
    const auto samples_of = [&](int rank) {
        return samples_of_shards(samples, shards, shards_of_rank[static_cast<std::size_t>(rank)]);
    };
    const auto in_set = [&](int rank) {
        const core::Range part = samples_of(rank);
        return core::Range{first + part.begin, first + part.end};
    };
    Split split;
    Split piece; // message memory on rank 0
    mpi::together(communicator_, [&] {
        split = allocate_split(header, samples_of(communicator_.rank()));
        if (reads() && !source_->every_rank_reads()) {
            piece = allocate_split(header, {0, samples_per_message(header)});
        }
    });
    mpi::together(communicator_, [&] {
        if (!reads()) {
            receive(split, samples_per_message(header), communicator_);
        } else if (source_->every_rank_reads()) {
            in_turn([&] {
                readers_.of(set)->read(in_set(communicator_.rank()), split.elements.values(), split.labels.values());
            });
        } else {
            distribute(*readers_.of(set), split, piece, in_set, communicator_);
        }
    });
    return split;
}

Dataset DatasetLoader::load(std::int64_t shards, std::span<const core::Range> shards_of_rank) {
    Dataset dataset;
    dataset.train = load(Set::train, 0, headers_.train.samples, shards, shards_of_rank);
    if (validation_samples() > 0) {
        dataset.validation = load(Set::train, headers_.train.samples, validation_samples(), shards, shards_of_rank);
    }
    dataset.test = load(Set::test, 0, headers_.test.samples, shards, shards_of_rank);
    std::array<std::uint64_t, sets.size()> hashes{};
    mpi::together(communicator_, [&] {
        if (!reads()) {
            return;
        }
        in_turn([&] {
            for (std::size_t i = 0; i < sets.size(); ++i) {
                std::unique_ptr<SetReader>& reader = readers_.of(sets[i]);
                hashes[i] = reader->finish(own_rest(sets[i]));
                reader.reset();
            }
        });
    });
    communicator_.sum(std::span(hashes));
    mpi::together(communicator_, [&] { dataset.name = source_->name({hashes[0], hashes[1]}); });
    return dataset;
}

} // namespace dtrain::data
