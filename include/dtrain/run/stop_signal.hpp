#pragma once

namespace dtrain::run {

/// While one lives, SIGTERM, SIGINT, SIGUSR1 and SIGHUP are requests to stop after a checkpoint. A second SIGINT ends
/// the process at once. SIGHUP stays ignored if it was. At most one object may live at a time.
class StopSignal {
  public:
    StopSignal();
    ~StopSignal();
    StopSignal(const StopSignal&) = delete;
    StopSignal& operator=(const StopSignal&) = delete;

    [[nodiscard]] static bool requested() noexcept;
};

} // namespace dtrain::run
