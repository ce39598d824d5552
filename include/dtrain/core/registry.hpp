#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace dtrain::core {

/// One entry of a Registry.
template <class Value>
struct Named {
    std::string_view name;
    Value value;
};
template <class Value>
Named(std::string_view, Value) -> Named<Value>;

/// A table of the values that a config key can select by name:
///
///   constexpr core::Registry schedules("schedule", {core::Named{"constant", constant}, core::Named{"step", step}});
template <class Value, std::size_t size>
class Registry {
  public:
    /// `kind` names what the table contains, for messages.
    constexpr Registry(std::string_view kind, const Named<Value> (&entries)[size])
        : kind_(kind), entries_(std::to_array(entries)) {}

    /// Null if there is no entry with that name.
    [[nodiscard]] constexpr const Value* find(std::string_view name) const noexcept {
        const auto found = std::ranges::find(entries_, name, &Named<Value>::name);
        return found == entries_.end() ? nullptr : &found->value;
    }
    /// Throws std::out_of_range, such as "no schedule linear", if there is no entry with that name.
    [[nodiscard]] const Value& at(std::string_view name) const {
        if (const Value* const found = find(name)) {
            return *found;
        }
        throw std::out_of_range("no " + std::string(kind_) + " " + std::string(name));
    }
    /// All names in the order of the table.
    [[nodiscard]] std::vector<std::string> names() const {
        std::vector<std::string> names;
        for (const Named<Value>& entry : entries_) {
            names.emplace_back(entry.name);
        }
        return names;
    }
    /// The name of the entry with that value, which must exist.
    [[nodiscard]] constexpr std::string_view name_of(const Value& value) const noexcept {
        return std::ranges::find(entries_, value, &Named<Value>::value)->name;
    }

  private:
    std::string_view kind_;
    std::array<Named<Value>, size> entries_;
};

} // namespace dtrain::core
