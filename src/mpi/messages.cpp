#include "dtrain/mpi/messages.hpp"

#include <utility>

static_assert(MPI_UNDEFINED < 0);

namespace dtrain::mpi {

Messages::~Messages() {
    for (MPI_Request& request : requests_) {
        MPI_Request_free(&request);
    }
}

MPI_Request& Messages::add() {
    finished_.push_back(0);
    under_way_.push_back(0);
    return requests_.emplace_back(MPI_REQUEST_NULL);
}

template <class T>
std::size_t Messages::add_send_of(const Communicator& communicator, std::span<const T> values, int destination,
                                  int tag) {
    check(MPI_Send_init(values.data(), count(values.size()), datatype<T>(), destination, tag, communicator.handle(),
                        &add()),
          "MPI_Send_init");
    return requests_.size() - 1;
}

template <class T>
std::size_t Messages::add_receive_of(const Communicator& communicator, std::span<T> values, int source, int tag) {
    check(MPI_Recv_init(values.data(), count(values.size()), datatype<T>(), source, tag, communicator.handle(), &add()),
          "MPI_Recv_init");
    return requests_.size() - 1;
}

std::size_t Messages::add_send(const Communicator& communicator, std::span<const float> values, int destination,
                               int tag) {
    return add_send_of(communicator, values, destination, tag);
}

std::size_t Messages::add_send(const Communicator& communicator, std::span<const std::uint16_t> words, int destination,
                               int tag) {
    return add_send_of(communicator, words, destination, tag);
}

std::size_t Messages::add_receive(const Communicator& communicator, std::span<float> values, int source, int tag) {
    return add_receive_of(communicator, values, source, tag);
}

std::size_t Messages::add_receive(const Communicator& communicator, std::span<std::uint16_t> words, int source,
                                  int tag) {
    return add_receive_of(communicator, words, source, tag);
}

void Messages::start(std::size_t message) {
    under_way_[message] = 1;
    check(MPI_Start(&requests_[message]), "MPI_Start");
}

std::span<const int> Messages::finished() {
    int found = 0;
    check(MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(), &found, finished_.data(),
                       MPI_STATUSES_IGNORE),
          "MPI_Testsome");
    std::size_t count = 0;
    for (int i = 0; i < found; ++i) { // found is negative if nothing is under way
        const int message = finished_[static_cast<std::size_t>(i)];
        // SimGrid's MPI also reports messages that have not been started.
        if (std::exchange(under_way_[static_cast<std::size_t>(message)], 0) != 0) {
            finished_[count++] = message;
        }
    }
    return std::span<const int>(finished_).first(count);
}

} // namespace dtrain::mpi
