#pragma once

namespace dtrain::run {

/// While one lives, SIGTERM, SIGINT and SIGUSR1 are requests to stop after a checkpoint; a second SIGINT ends the
/// process at once. At most one at a time.
class StopSignal {
  public:
    StopSignal();
    ~StopSignal();
    StopSignal(const StopSignal&) = delete;
    StopSignal& operator=(const StopSignal&) = delete;

    [[nodiscard]] static bool requested() noexcept;
};

} // namespace dtrain::run
