#pragma once

#include "dtrain/mpi/communicator.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace dtrain::mpi {

/// Messages between pairs of ranks that are sent again and again from and to the same places. None of the functions is
/// collective, and none allocates once all messages are added; each message is known by its number, counted from 0.
class Messages {
  public:
    Messages() = default;
    Messages(const Messages&) = delete;
    Messages& operator=(const Messages&) = delete;
    /// No message is under way.
    ~Messages();

    /// What is sent by `tag` and what is received by it are matched in the order in which they are started. Both sides
    /// name as many values. The communicator is that of the other rank's number.
    std::size_t add_send(const Communicator& communicator, std::span<const float> values, int destination, int tag);
    std::size_t add_receive(const Communicator& communicator, std::span<float> values, int source, int tag);
    [[nodiscard]] std::size_t size() const noexcept { return requests_.size(); }

    /// Begins a message that is not under way. Until it is finished its values are MPI's.
    void start(std::size_t message);
    /// The messages that were finished since the last call. Makes progress on those under way.
    [[nodiscard]] std::span<const int> finished();

  private:
    /// Room for one more message, of which MPI is to be told yet.
    MPI_Request& add();

    std::vector<MPI_Request> requests_;
    std::vector<int> finished_;
    std::vector<std::uint8_t> under_way_;
};

} // namespace dtrain::mpi
