// SPDX-License-Identifier: Apache-2.0
// The ranks of a world as points of a grid with named axes. Axis sizes multiply to the world. Ranks count
// with tp innermost, then cp, ep, dp, and pp outermost: neighbours in rank, which share a host, exchange
// the most.
#pragma once

#include <array>
#include <initializer_list>
#include <map>

#include "core/base/comm.h"

namespace llmctl {

enum class Axis : uint8_t { tp, cp, ep, dp, pp };  // innermost first
constexpr int kAxes = 5;
const char* name_of(Axis axis);

struct MeshShape {
  int dp = 1, pp = 1, cp = 1, tp = 1, ep = 1;
  int size(Axis axis) const;
  int ranks() const { return dp * pp * cp * tp * ep; }
  std::string text() const;  // "dp 2 x tp 2": those above 1
};

// Where a rank stands, by axis. No communication.
std::array<int, kAxes> coordinates(const MeshShape& shape, int rank);
int rank_at(const MeshShape& shape, const std::array<int, kAxes>& at);

// Ranks along one axis; without a communicator in a plan, or where they are one.
struct RankGroup {
  Comm* comm = nullptr;
  int size = 1, rank = 0;
};

class Mesh {
 public:
  // Collective: makes a group for each axis, in their order. `world` must outlive the mesh. Error{input}
  // when the sizes do not multiply to the world.
  Mesh(Comm& world, const MeshShape& shape);
  const MeshShape& shape() const { return shape_; }
  Comm& world() const { return world_; }
  int at(Axis axis) const { return at_[static_cast<size_t>(axis)]; }
  int size(Axis axis) const { return shape_.size(axis); }
  // The ranks that differ from this one along `axis` only, in its order: group rank is at(axis).
  Comm& group(Axis axis) const;
  // The same for a set, inner axes running fastest. Collective the first time a set is asked for.
  Comm& group(std::initializer_list<Axis> axes);

 private:
  Comm& make(unsigned set);
  Comm& world_;
  MeshShape shape_;
  std::array<int, kAxes> at_{};
  std::map<unsigned, std::unique_ptr<Comm>> groups_;  // by bits of the set
};

}  // namespace llmctl
