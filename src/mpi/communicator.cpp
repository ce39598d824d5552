#include "dtrain/mpi/communicator.hpp"

#include "dtrain/core/host_name.hpp"
#include "dtrain/core/memory.hpp"
#include "dtrain/core/terminal.hpp"
#include "dtrain/mpi/fatal_signals.hpp"
#include "dtrain/mpi/launcher.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <limits>
#include <new>

namespace dtrain::mpi {
namespace {

/// Longer than mpirun needs to end the ranks of other hosts (three seconds).
constexpr unsigned end_of_job_seconds = 5;

#ifdef MPICH_NAME // MPICH and its relatives
constexpr bool mpirun_returns_numbers_of_signals = true;
#else
constexpr bool mpirun_returns_numbers_of_signals = false;
#endif

/// The rank in Communicator::world(). Simulated ranks share this variable, so their messages may name a wrong rank.
int own_rank = 0;
bool on_first_host = true;                ///< whether this is the host of rank 0
volatile std::sig_atomic_t last_code = 0; ///< the exit code for the signal handler in abort()

/// Whether this is the first call by any rank of this job on this host. The first caller creates a file in the job's
/// temporary folder, which mpirun or srun removes at the end. Without such a folder, every call counts as the first.
bool is_first_to_report() {
    const char* const folder = std::getenv("PMIX_SERVER_TMPDIR");
    std::array<char, PATH_MAX> name{};
    fmt::format_to_n(name.data(), name.size() - 1, "{}/dtrain-error-reported", folder == nullptr ? "" : folder);
    return folder == nullptr || open(name.data(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600) >= 0 ||
           errno != EEXIST;
}

/// Sleeps even if signals interrupt it, such as mpirun's request to stop.
void sleep_through(unsigned seconds) {
    while (seconds > 0) {
        seconds = sleep(seconds);
    }
}

/// Open MPI sends messages within a host through files in /dev/shm, without reserving their space. A rank that finds no
/// space when it writes is killed by SIGBUS. If /dev/shm is small, as in containers, this function moves the files to
/// the job's temporary folder.
void avoid_small_shared_folder() {
    constexpr std::int64_t bytes_per_rank = 16 << 20; // the files need up to 4 MB; the rest is for other jobs
    const char* const ranks = std::getenv("OMPI_COMM_WORLD_LOCAL_SIZE");
    const char* const folder = std::getenv("PMIX_SERVER_TMPDIR");
    struct statvfs space {};
    if (ranks != nullptr && folder != nullptr && statvfs("/dev/shm", &space) == 0 &&
        static_cast<std::int64_t>(space.f_bavail * space.f_frsize) < bytes_per_rank * std::atoi(ranks)) {
        setenv("OMPI_MCA_btl_vader_backing_directory", folder, 0);
    }
}

/// Open MPI looks for the networks of a cluster, which takes a third of the start of a program. A process without a
/// launcher needs none; dtrain-eval is usually run like this. Open MPI's daemon is needed: without it
/// (ess_singleton_isolated), all such processes of a host share one temporary folder, and remove it from each other.
void start_quickly_alone() {
    if (is_alone([](const char* name) { return std::getenv(name); }) && std::getenv("OMPI_MCA_btl") == nullptr) {
        setenv("OMPI_MCA_pml", "ob1", 0); // the user's btl may lack what ob1 needs
    }
}

/// For std::set_terminate.
[[noreturn]] void end_job() {
    if (std::current_exception() == nullptr) {
        fail(core::Error(core::ExitCode::rank_lost, "std::terminate without an exception"));
    }
    try {
        throw;
    } catch (...) {
        fail(core::current_error());
    }
}

} // namespace

static_assert(!std::is_copy_constructible_v<Communicator> && std::is_nothrow_move_constructible_v<Communicator>);

void check(int code, const char* function) {
    if (code == MPI_SUCCESS) {
        return;
    }
    std::array<char, MPI_MAX_ERROR_STRING> text{};
    int length = 0;
    MPI_Error_string(code, text.data(), &length);
    if (!core::has_addresses(reserve_bytes)) {
        fail(core::Error(core::ExitCode::bad_config, fmt::format("out of memory in {}", function)));
    }
    fail(core::Error(core::ExitCode::rank_lost, fmt::format("{}: {}", function, text.data())));
}

int count(std::size_t size) {
    if (size > static_cast<std::size_t>(std::numeric_limits<int>::max())) {
        throw core::Error(core::ExitCode::bad_config,
                          fmt::format("a message of {} elements is too long for MPI, which allows at most {}", size,
                                      std::numeric_limits<int>::max()));
    }
    return static_cast<int>(size);
}

Environment::Environment(int& argc, char**& argv) {
    // Over TCP, Open MPI sends messages of more than 64 kB only after a handshake, which has to wait for data in the
    // other direction. With these limits, the messages of the gradient exchange (up to 256 kB) need no handshake.
    // Settings of the user take precedence.
    for (const char* const parameter :
         {"OMPI_MCA_btl_tcp_eager_limit", "OMPI_MCA_btl_tcp_rndv_eager_limit", "OMPI_MCA_btl_tcp_max_send_size"}) {
        setenv(parameter, "300000", 0);
    }
    setenv("OMPI_MCA_btl_tcp_flags", "1", 0); // no remote memory access, because TCP only emulates it
    avoid_small_shared_folder();
    start_quickly_alone();
    if (mpirun_returns_numbers_of_signals) { // before MPI_Init, which connects the ranks
        end_by_kill_on_fatal_signals(fmt::format("a rank on {}", core::host_name().data()));
    }
    int provided = 0;
    check(MPI_Init_thread(&argc, &argv, MPI_THREAD_SERIALIZED, &provided), "MPI_Init_thread");
#ifndef DTRAIN_SIMULATE                     // a simulation has no threads
    if (provided < MPI_THREAD_SERIALIZED) { // a thread exchanges gradients while another computes
        abort(core::ExitCode::bad_config, "this MPI library does not support calls from several threads "
                                          "(MPI_THREAD_SERIALIZED). Use an MPI library with thread support");
    }
#endif
    check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    check(MPI_Comm_rank(MPI_COMM_WORLD, &own_rank), "MPI_Comm_rank");
    std::set_terminate(end_job);
    if (!core::has_addresses(reserve_bytes)) { // before MPI connects its ranks
        throw std::bad_alloc();
    }
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
    Communicator world = as_launched.split(0, leader[0]);
    own_rank = world.rank();
    on_first_host = leader[0] == 0;
    if (mpirun_returns_numbers_of_signals) {
        end_by_kill_on_fatal_signals(fmt::format("rank {} on {}", own_rank, core::host_name().data()));
    }
    return world;
}

Communicator& Communicator::operator=(Communicator&& other) noexcept {
    std::swap(handle_, other.handle_);
    std::swap(rank_, other.rank_);
    std::swap(size_, other.size_);
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

Communicator Communicator::split_by_node(int max_ranks) const {
    MPI_Comm handle = MPI_COMM_NULL;
    check(MPI_Comm_split_type(handle_, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &handle), "MPI_Comm_split_type");
    Communicator node(handle);
    return max_ranks == 0 ? std::move(node) : node.split(node.rank() / max_ranks, node.rank());
}

void Communicator::barrier() const {
    const Waiting waiting;
    check(MPI_Barrier(handle_), "MPI_Barrier");
}

std::string Communicator::broadcast(std::string text, int root) const {
    std::array<std::int64_t, 1> length{static_cast<std::int64_t>(text.size())};
    broadcast(std::span(length), root);
    text.resize(static_cast<std::size_t>(length[0]));
    broadcast(std::span(text), root);
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

void fail(const core::Error& error) {
    if (!on_first_host) {
        sleep_through(end_of_job_seconds); // if the first host has the same error, only that host should report it
    }
    std::array<char, 4096> text{};
    const auto end = fmt::format_to_n(text.data(), text.size(), "rank {} on {}: {}", own_rank, core::host_name().data(),
                                      error.what());
    abort(error.code(), {text.data(), end.out});
}

void abort(core::ExitCode code, std::string_view message) {
    if (is_first_to_report()) {
        core::print_error("{}: {}\n", program_invocation_short_name, message);
    } else {
        sleep_through(end_of_job_seconds); // normally the rank that reported the error ends this process meanwhile
    }
    // MPI_Abort may hang if it is called from another thread than the one that initialised MPI, and it may crash if
    // memory is short. The handlers and the alarm end this process anyway; then the launcher ends the other ranks.
    last_code = static_cast<int>(code);
    sigset_t last_signals;
    sigemptyset(&last_signals);
    for (const int signal : {SIGALRM, SIGSEGV, SIGBUS, SIGABRT}) {
        std::signal(signal, [](int) { _exit(last_code); });
        sigaddset(&last_signals, signal);
    }
    pthread_sigmask(SIG_UNBLOCK, &last_signals, nullptr);
    alarm(10);
    MPI_Abort(MPI_COMM_WORLD, static_cast<int>(code));
    std::abort();
}

void throw_together(const Communicator& communicator, const std::optional<core::Error>& error) {
    int first_failed = error ? communicator.rank() : communicator.size();
    {
        const Waiting waiting;
        check(MPI_Allreduce(MPI_IN_PLACE, &first_failed, 1, MPI_INT, MPI_MIN, communicator.handle()), "MPI_Allreduce");
    }
    if (first_failed == communicator.size()) {
        return;
    }
    std::array<int, 1> code{error ? static_cast<int>(error->code()) : 0};
    communicator.broadcast(std::span(code), first_failed);
    throw AgreedError(static_cast<core::ExitCode>(code[0]),
                      communicator.broadcast(error ? error->what() : "", first_failed));
}

void together(const Communicator& communicator, const std::function<void()>& action) {
    std::optional<core::Error> error;
    try {
        if (action) {
            action();
        }
    } catch (const core::Error& caught) {
        error = caught;
    } catch (...) {
        const core::Error caught = core::current_error();
        error.emplace(caught.code(),
                      fmt::format("rank {} on {}: {}", own_rank, core::host_name().data(), caught.what()));
    }
    throw_together(communicator, error);
}

} // namespace dtrain::mpi
