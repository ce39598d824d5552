#pragma once

#include <hdf5.h>

#include <array>
#include <type_traits>
#include <utility>

namespace dtrain::io {

/// Owns an HDF5 identifier.
class Handle {
  public:
    Handle(hid_t id, herr_t (*close)(hid_t)) noexcept : id_(id), close_(close) {}
    Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, H5I_INVALID_HID)), close_(other.close_) {}
    ~Handle() {
        if (id_ >= 0) {
            close_(id_);
        }
    }
    Handle(const Handle&) = delete;
    Handle& operator=(const Handle&) = delete;
    Handle& operator=(Handle&&) = delete;
    operator hid_t() const noexcept { return id_; }

  private:
    hid_t id_;
    herr_t (*close_)(hid_t);
};
static_assert(!std::is_copy_constructible_v<Handle> && std::is_nothrow_move_constructible_v<Handle>);

/// Stops HDF5 from printing its error stack. Callers convert errors to exceptions.
void silence_hdf5();

/// The last failure of an HDF5 function.
struct Hdf5Failure {
    hid_t kind = H5I_INVALID_HID; ///< H5E_NOSPACE ...
    std::array<char, 256> reason{"unknown reason"};
};
/// The innermost entry of HDF5's error stack.
[[nodiscard]] Hdf5Failure last_hdf5_failure();

} // namespace dtrain::io
