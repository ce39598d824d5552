#pragma once

#include "dtrain/core/error.hpp"

#include <optional>

namespace dtrain::support {

/// The error of type E that `action` throws, or nothing.
template <class E = core::Error, class Action>
[[nodiscard]] std::optional<E> error_of(Action&& action) {
    try {
        action();
    } catch (const E& error) {
        return error;
    }
    return std::nullopt;
}

} // namespace dtrain::support
