#pragma once

#include "dtrain/config/config.hpp"

#include "support/errors.hpp"
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

namespace dtrain::config {

/// The message of the error that `action` throws, or an empty text.
template <class Action>
std::string message_of(Action&& action) {
    const auto error = support::error_of(action);
    if (!error) {
        return {};
    }
    EXPECT_EQ(error->code(), core::ExitCode::bad_config);
    EXPECT_EQ(std::string_view(error->what()).find('\n'), std::string_view::npos) << error->what();
    return error->what();
}

inline std::string message(std::string_view ini, const std::vector<std::string>& overrides = {}) {
    return message_of([&] { (void)parse(ini, "x.ini", overrides); });
}

inline Config with(const std::vector<std::string>& overrides) {
    return parse("", "x.ini", overrides);
}

/// INI text or a command-line argument, and the message about it.
struct Complaint {
    std::string text;
    std::string expected;
};

} // namespace dtrain::config
