#include "dtrain/core/error.hpp"

#include "support/errors.hpp"
#include <gtest/gtest.h>

#include <filesystem>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

namespace dtrain::core {
namespace {

/// The error that `current_error` makes of `thrown`.
template <class E>
Error error_from(const E& thrown) {
    try {
        throw thrown;
    } catch (...) {
        return current_error();
    }
}

void expect(const Error& error, ExitCode code, const std::string& message) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_EQ(std::string(error.what()), message);
}

TEST(CurrentError, KeepsAnErrorAsItWasThrown) {
    expect(error_from(Error(ExitCode::diverged, "too fast")), ExitCode::diverged, "too fast");
}

TEST(CurrentError, TranslatesLackOfMemory) {
    expect(error_from(std::bad_alloc()), ExitCode::bad_config, "out of memory");
    expect(error_from(std::bad_array_new_length()), ExitCode::bad_config, "out of memory");
    try {
        std::vector<double> more_than_there_are_addresses;
        more_than_there_are_addresses.reserve(~std::size_t{0});
    } catch (...) {
        expect(current_error(), ExitCode::bad_config, "out of memory");
    }
}

TEST(CurrentError, TranslatesLackOfMemoryForAThread) {
    for (const std::errc reason : {std::errc::resource_unavailable_try_again, std::errc::not_enough_memory}) {
        expect(error_from(std::system_error(std::make_error_code(reason))), ExitCode::bad_config, "out of memory");
    }
    EXPECT_EQ(error_from(std::system_error(std::make_error_code(std::errc::invalid_argument))).code(),
              ExitCode::bad_output);
}

TEST(CurrentError, TranslatesFileSystemErrors) {
    const std::filesystem::filesystem_error thrown("cannot list", "/a/folder",
                                                   std::make_error_code(std::errc::permission_denied));
    expect(error_from(thrown), ExitCode::bad_output, "/a/folder: Permission denied");
}

TEST(CurrentError, KeepsTheMessageOfOtherExceptions) {
    expect(error_from(std::runtime_error("surprise")), ExitCode::rank_lost, "surprise");
    EXPECT_EQ(error_from(42).code(), ExitCode::rank_lost);
}

} // namespace
} // namespace dtrain::core
