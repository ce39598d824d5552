#include "tree_sum.hpp"

#include "dtrain/core/shard_tree.hpp"
#include "dtrain/kernels/instruction_set.hpp"

#include <algorithm>
#include <cstring>

namespace dtrain::parallel {
namespace {

/// Elements per block: small enough that partial sums stay in the first-level cache, large enough to vectorise well.
constexpr std::size_t block = 1024;

} // namespace

TreeSum::TreeSum(core::Range root, std::span<const core::Range> leaves) {
    compile(root, leaves, 0);
    int depth = 0;
    for (const Addition& addition : program_) {
        depth = std::max(depth, -addition.result);
    }
    scratch_ = core::Buffer<float>(static_cast<std::size_t>(depth) * block);
}

int TreeSum::compile(core::Range node, std::span<const core::Range> leaves, int depth) {
    if (const auto leaf = std::ranges::find(leaves, node); leaf != leaves.end()) {
        return static_cast<int>(leaf - leaves.begin());
    }
    const std::int64_t middle = core::split_node(node);
    const int left = compile({node.begin, middle}, leaves, depth);
    const int right = compile({middle, node.end}, leaves, depth + 1);
    program_.push_back({left, right, -1 - depth});
    return -1 - depth;
}

void TreeSum::operator()(std::span<const float* const> leaves, std::size_t size, float* out, bool rounded) {
    if (program_.empty()) {
        if (leaves[0] != out) {
            std::memcpy(out, leaves[0], size * sizeof(float));
        }
        return;
    }
    const kernels::Table& table = kernels::table();
    const auto add = rounded ? table.compression.add : table.in_float.elements.add;
    for (std::size_t begin = 0; begin < size; begin += block) {
        const std::size_t count = std::min(block, size - begin);
        const auto operand = [&](int which) {
            return which >= 0 ? leaves[static_cast<std::size_t>(which)] + begin
                              : scratch_.data() + static_cast<std::size_t>(-1 - which) * block;
        };
        for (const Addition& addition : program_) {
            const float* const left = operand(addition.left);
            const float* const right = operand(addition.right);
            float* const result = &addition == &program_.back()
                                      ? out + begin
                                      : scratch_.data() + static_cast<std::size_t>(-1 - addition.result) * block;
            add(left, right, result, count);
        }
    }
}

} // namespace dtrain::parallel
