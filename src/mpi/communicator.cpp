#include "dtrain/mpi/communicator.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <limits>
#include <new>

namespace dtrain::mpi {

static_assert(!std::is_copy_constructible_v<Communicator> && std::is_nothrow_move_constructible_v<Communicator>);

void check(int code, const char* function) {
    if (code == MPI_SUCCESS) {
        return;
    }
    std::array<char, MPI_MAX_ERROR_STRING> text{};
    int length = 0;
    MPI_Error_string(code, text.data(), &length);
    fmt::print(stderr, "dtrain: {}: {}\n", function, text.data());
    abort(core::ExitCode::rank_lost);
}

int count(std::size_t size) {
    if (size > static_cast<std::size_t>(std::numeric_limits<int>::max())) {
        throw core::Error(core::ExitCode::bad_config,
                          fmt::format("a message of {} elements is more than MPI can count", size));
    }
    return static_cast<int>(size);
}

Environment::Environment(int& argc, char**& argv) {
    // Open MPI over TCP sends messages of more than 64 kB after a handshake, which waits behind the data that goes the
    // other way meanwhile. Those of an exchange of gradients (up to 256 kB) leave at once instead. Whoever sets these
    // parameters is followed.
    for (const char* const parameter :
         {"OMPI_MCA_btl_tcp_eager_limit", "OMPI_MCA_btl_tcp_rndv_eager_limit", "OMPI_MCA_btl_tcp_max_send_size"}) {
        setenv(parameter, "300000", 0);
    }
    setenv("OMPI_MCA_btl_tcp_flags", "1", 0); // no remote memory access, which TCP but imitates
    int provided = 0;
    check(MPI_Init_thread(&argc, &argv, MPI_THREAD_SERIALIZED, &provided), "MPI_Init_thread");
#ifndef DTRAIN_SIMULATE                     // where there are no threads
    if (provided < MPI_THREAD_SERIALIZED) { // a thread exchanges gradients while another computes
        fmt::print(stderr, "dtrain: this MPI allows no calls from several threads, not even in turns\n");
        abort(core::ExitCode::bad_config);
    }
#endif
    check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
}

Environment::~Environment() {
    MPI_Finalize();
}

Communicator::Communicator(MPI_Comm handle) : handle_(handle) {
    check(MPI_Comm_set_errhandler(handle_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    check(MPI_Comm_rank(handle_, &rank_), "MPI_Comm_rank");
    check(MPI_Comm_size(handle_, &size_), "MPI_Comm_size");
}

Communicator Communicator::world() {
    MPI_Comm duplicate = MPI_COMM_NULL;
    check(MPI_Comm_dup(MPI_COMM_WORLD, &duplicate), "MPI_Comm_dup");
    const Communicator as_launched(duplicate);
    std::array<int, 1> leader{as_launched.rank()};
    as_launched.split_by_node().broadcast(std::span(leader));
    return as_launched.split(0, leader[0]);
}

Communicator& Communicator::operator=(Communicator&& other) noexcept {
    std::swap(handle_, other.handle_);
    rank_ = other.rank_;
    size_ = other.size_;
    return *this;
}

Communicator::~Communicator() {
    if (handle_ != MPI_COMM_NULL) {
        MPI_Comm_free(&handle_);
    }
}

Communicator Communicator::split(int colour, int key) const {
    MPI_Comm handle = MPI_COMM_NULL;
    check(MPI_Comm_split(handle_, colour, key, &handle), "MPI_Comm_split");
    return Communicator(handle);
}

Communicator Communicator::split_by_node(int most) const {
    MPI_Comm handle = MPI_COMM_NULL;
    check(MPI_Comm_split_type(handle_, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &handle), "MPI_Comm_split_type");
    Communicator node(handle);
    return most == 0 ? std::move(node) : node.split(node.rank() / most, node.rank());
}

void Communicator::barrier() const {
    const Waiting waiting;
    check(MPI_Barrier(handle_), "MPI_Barrier");
}

std::string Communicator::broadcast(std::string text) const {
    std::array<std::int64_t, 1> length{static_cast<std::int64_t>(text.size())};
    broadcast(std::span(length));
    text.resize(static_cast<std::size_t>(length[0]));
    broadcast(std::span(text));
    return text;
}

void Communicator::send(std::span<const std::byte> bytes, int destination) const {
    const Waiting waiting;
    check(MPI_Send(bytes.data(), count(bytes.size()), MPI_BYTE, destination, 0, handle_), "MPI_Send");
}

std::size_t Communicator::receive(std::span<std::byte> bytes, int source) const {
    const Waiting waiting;
    MPI_Status status;
    check(MPI_Recv(bytes.data(), count(bytes.size()), MPI_BYTE, source, 0, handle_, &status), "MPI_Recv");
    int received = 0;
    check(MPI_Get_count(&status, MPI_BYTE, &received), "MPI_Get_count");
    return static_cast<std::size_t>(received);
}

void abort(core::ExitCode code) {
    // Should MPI_Abort hang, as it may where it is called from another thread than MPI was initialised in, an alarm
    // ends at least this process, and the launcher the others.
    std::signal(SIGALRM, SIG_DFL);
    sigset_t alarm_only;
    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    pthread_sigmask(SIG_UNBLOCK, &alarm_only, nullptr);
    alarm(10);
    MPI_Abort(MPI_COMM_WORLD, static_cast<int>(code));
    std::abort();
}

void throw_together(const Communicator& communicator, const std::optional<core::Error>& error) {
    int speaker = error ? communicator.rank() : communicator.size();
    {
        const Waiting waiting;
        check(MPI_Allreduce(MPI_IN_PLACE, &speaker, 1, MPI_INT, MPI_MIN, communicator.handle()), "MPI_Allreduce");
    }
    if (speaker == communicator.size()) {
        return;
    }
    std::array<int, 2> code_and_length{};
    std::string text;
    if (speaker == communicator.rank()) {
        text = error->what();
        code_and_length = {static_cast<int>(error->code()), count(text.size())};
    }
    communicator.broadcast(std::span(code_and_length), speaker);
    text.resize(static_cast<std::size_t>(code_and_length[1]));
    communicator.broadcast(std::span(text), speaker);
    throw AgreedError(static_cast<core::ExitCode>(code_and_length[0]), text);
}

void together(const Communicator& communicator, const std::function<void()>& action) {
    std::optional<core::Error> error;
    try {
        if (action) {
            action();
        }
    } catch (const core::Error& caught) {
        error = caught;
    } catch (const std::bad_alloc&) {
        error = core::Error(core::ExitCode::bad_config, "out of memory");
    } catch (const std::filesystem::filesystem_error& caught) {
        error = core::Error(core::ExitCode::bad_output, caught.what());
    } catch (const std::exception& caught) {
        error = core::Error(core::ExitCode::rank_lost, caught.what());
    }
    throw_together(communicator, error);
}

} // namespace dtrain::mpi
