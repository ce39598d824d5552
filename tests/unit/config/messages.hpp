#pragma once

#include "dtrain/config/config.hpp"

#include "support/errors.hpp"
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

namespace dtrain::config {

/// What `action` complains about; an empty text if it does not.
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

/// A piece of INI text or a word of a command line, and what is said of it.
struct Complaint {
    std::string text;
    std::string expected;
};

} // namespace dtrain::config
