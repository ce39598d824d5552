#pragma once

#include "dtrain/mpi/communicator.hpp"

#include "support/temporary_folder.hpp"

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace dtrain::support {

/// A temporary folder, known to all ranks. Rank 0 creates and removes it. Creation and destruction are collective.
class SharedFolder {
  public:
    explicit SharedFolder(const mpi::Communicator& communicator) : communicator_(communicator) {
        if (communicator.is_root()) {
            own_.emplace();
        }
        path_ = communicator.broadcast(own_ ? own_->path().string() : std::string());
    }
    ~SharedFolder() { communicator_.barrier(); }
    SharedFolder(const SharedFolder&) = delete;
    SharedFolder& operator=(const SharedFolder&) = delete;

    [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
    [[nodiscard]] std::filesystem::path operator/(std::string_view name) const { return path_ / name; }

  private:
    const mpi::Communicator& communicator_;
    std::optional<TemporaryFolder> own_;
    std::filesystem::path path_;
};

} // namespace dtrain::support
