// The baseline: every rank has all parameters, and MPI_Allreduce sums the gradients in an order that MPI chooses.

#include "dtrain/core/matrix.hpp"

#include "reducers.hpp"

#include <utility>

namespace dtrain::parallel {
namespace {

class MpiReducer final : public GradientReducer {
  public:
    MpiReducer(const ReducerSettings& settings, const mpi::Communicator& communicator)
        : GradientReducer(settings, communicator.rank()), communicator_(communicator),
          parameters_(settings.parameters) {
        for (std::size_t i = 0; i < subtrees().size(); ++i) {
            gradients_.emplace_back(settings.parameters + tail_size);
        }
        for (std::size_t i = 0; i < settings.states; ++i) {
            states_.emplace_back(settings.parameters);
        }
    }

    [[nodiscard]] std::span<float> gradients(std::size_t i) const noexcept override { return gradients_[i].values(); }
    [[nodiscard]] std::span<float> parameters() const noexcept override { return parameters_.values(); }
    [[nodiscard]] std::span<float> state(std::size_t i) const noexcept override { return states_[i].values(); }
    [[nodiscard]] bool fills_parameters() const noexcept override { return true; }

    void arrive() override {}
    void combine() override {
        float* const total = gradients_[0].data();
        for (std::size_t i = 1; i < gradients_.size(); ++i) {
            const float* const other = gradients_[i].data();
            for (std::size_t j = 0; j < gradients_[0].size(); ++j) {
                total[j] += other[j];
            }
        }
        communicator_.sum(gradients_[0].values());
    }
    [[nodiscard]] std::span<const float> tail() const noexcept override {
        return gradients_[0].values().last(tail_size);
    }
    [[nodiscard]] core::Range slice() const noexcept override {
        return {0, static_cast<std::int64_t>(parameters_.size())};
    }
    [[nodiscard]] Block sum_block(std::int64_t begin) override {
        return {{begin, slice().end},
                gradients_[0].values().first(parameters_.size()).subspan(static_cast<std::size_t>(begin))};
    }
    void sum_over_slices(std::span<std::int64_t>) override {} // each rank's slice has all parameters
    void publish() override {}

  private:
    const mpi::Communicator& communicator_;
    core::Buffer<float> parameters_;
    std::vector<core::Buffer<float>> gradients_;
    std::vector<core::Buffer<float>> states_;
};

} // namespace

std::unique_ptr<GradientReducer> make_mpi_reducer(const ReducerSettings& settings,
                                                  const mpi::Communicator& communicator) {
    return std::make_unique<MpiReducer>(settings, communicator);
}

} // namespace dtrain::parallel
