#include "dtrain/core/shard_tree.hpp"

namespace dtrain::core {
namespace {

void collect(Range node, Range part, std::vector<Range>& found) {
    if (part.begin >= node.end || part.end <= node.begin) {
        return;
    }
    if (part.begin <= node.begin && node.end <= part.end) {
        found.push_back(node);
        return;
    }
    const std::int64_t middle = split_node(node);
    collect({node.begin, middle}, part, found);
    collect({middle, node.end}, part, found);
}

} // namespace

std::vector<Range> complete_subtrees(std::int64_t shards, Range part) {
    std::vector<Range> found;
    collect({0, shards}, part, found);
    return found;
}

} // namespace dtrain::core
