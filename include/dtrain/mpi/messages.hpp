#pragma once

#include "dtrain/mpi/communicator.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace dtrain::mpi {

/// Messages between pairs of ranks that are sent repeatedly between the same memory locations (persistent requests).
/// Messages are numbered from 0. No function is collective. After all messages are added, nothing is allocated. An MPI
/// error ends the job like `check`.
class Messages {
  public:
    Messages() = default;
    Messages(const Messages&) = delete;
    Messages& operator=(const Messages&) = delete;
    /// No message may be under way.
    ~Messages();

    /// Adds a message and returns its number. `destination` and `source` are ranks of `communicator`. Sends and
    /// receives with the same `tag` are matched in the order in which they are started; both sides must have the same
    /// number of values. The memory and the communicator must outlive this object.
    std::size_t add_send(const Communicator& communicator, std::span<const float> values, int destination, int tag);
    std::size_t add_send(const Communicator& communicator, std::span<const std::uint16_t> words, int destination,
                         int tag);
    std::size_t add_receive(const Communicator& communicator, std::span<float> values, int source, int tag);
    std::size_t add_receive(const Communicator& communicator, std::span<std::uint16_t> words, int source, int tag);
    [[nodiscard]] std::size_t size() const noexcept { return requests_.size(); }

    /// Starts a message that is not under way. Do not access its values until it is finished.
    void start(std::size_t message);
    /// Makes progress and returns the numbers of the messages that finished since the last call. Valid until the next
    /// call.
    [[nodiscard]] std::span<const int> finished();

  private:
    /// Adds an empty request for one more message.
    MPI_Request& add();
    template <class T>
    std::size_t add_send_of(const Communicator& communicator, std::span<const T> values, int destination, int tag);
    template <class T>
    std::size_t add_receive_of(const Communicator& communicator, std::span<T> values, int source, int tag);

    std::vector<MPI_Request> requests_;
    std::vector<int> finished_;
    std::vector<std::uint8_t> under_way_;
};

} // namespace dtrain::mpi
