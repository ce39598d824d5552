#include "dtrain/core/shard_tree.hpp"

namespace dtrain::core {
namespace {

void find_subtrees(Range node, Range part, std::vector<Range>& found) {
    if (part.begin >= node.end || part.end <= node.begin) {
        return;
    }
    if (part.begin <= node.begin && node.end <= part.end) {
        found.push_back(node);
        return;
    }
    const std::int64_t middle = split_node(node);
    find_subtrees({node.begin, middle}, part, found);
    find_subtrees({middle, node.end}, part, found);
}

void count_merges(Range node, std::vector<std::uint8_t>& merges) {
    if (node.size() == 1) {
        merges.push_back(0);
        return;
    }
    const std::int64_t middle = split_node(node);
    count_merges({node.begin, middle}, merges);
    count_merges({middle, node.end}, merges);
    ++merges.back();
}

} // namespace

std::vector<std::uint8_t> merges_after_leaves(Range node) {
    std::vector<std::uint8_t> merges;
    count_merges(node, merges);
    return merges;
}

std::vector<std::size_t> levels_of_leaves(Range node) {
    std::vector<std::size_t> levels;
    std::size_t level = 0;
    for (const std::uint8_t merges : merges_after_leaves(node)) {
        levels.push_back(level);
        level = level + 1 - merges;
    }
    return levels;
}

std::vector<Range> complete_subtrees(std::int64_t shards, Range part) {
    std::vector<Range> found;
    find_subtrees({0, shards}, part, found);
    return found;
}

} // namespace dtrain::core
