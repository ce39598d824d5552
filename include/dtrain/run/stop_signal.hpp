#pragma once

namespace dtrain::run {

/// While an object of this class exists, SIGTERM, SIGINT, SIGUSR1 and SIGHUP request a stop after a checkpoint. A
/// second SIGINT ends the process at once. If SIGHUP was ignored, it stays ignored. At most one object may exist at a
/// time.
class StopSignal {
  public:
    StopSignal();
    ~StopSignal();
    StopSignal(const StopSignal&) = delete;
    StopSignal& operator=(const StopSignal&) = delete;

    [[nodiscard]] static bool requested() noexcept;
};

} // namespace dtrain::run
