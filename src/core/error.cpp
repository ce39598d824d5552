#include "dtrain/core/error.hpp"

#include <fmt/format.h>

#include <exception>
#include <filesystem>
#include <new>
#include <system_error>

namespace dtrain::core {
namespace {

const Error out_of_memory(ExitCode::bad_config, "out of memory"); // made at program start, when memory is available

} // namespace

Error current_error() {
    try {
        throw;
    } catch (const Error& error) {
        return error;
    } catch (const std::bad_alloc&) {
        return out_of_memory;
    } catch (const std::length_error&) { // a container would exceed its maximum size
        return out_of_memory;
    } catch (const std::filesystem::filesystem_error& error) {
        return {ExitCode::bad_output, fmt::format("{}: {}", error.path1().string(), error.code().message())};
    } catch (const std::system_error& error) {
        // The system refuses a new thread with EAGAIN, both for lack of memory and at the limit of threads.
        if (error.code() == std::errc::resource_unavailable_try_again || error.code() == std::errc::not_enough_memory) {
            return out_of_memory;
        }
        return {ExitCode::bad_output, error.what()}; // fmt throws this when it cannot print
    } catch (const std::exception& error) {
        return {ExitCode::rank_lost, error.what()};
    } catch (...) {
        return {ExitCode::rank_lost, "an exception of an unknown type"};
    }
}

} // namespace dtrain::core
