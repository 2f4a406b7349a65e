// SPDX-License-Identifier: Apache-2.0
#include "core/base/mesh.h"

namespace llmctl {

const char* name_of(Axis axis) {
  constexpr const char* kNames[kAxes] = {"tp", "cp", "ep", "dp", "pp"};
  return kNames[static_cast<size_t>(axis)];
}

int MeshShape::size(Axis axis) const {
  const int sizes[kAxes] = {tp, cp, ep, dp, pp};
  return sizes[static_cast<size_t>(axis)];
}

std::string MeshShape::text() const {
  std::string text;
  for (int a = kAxes - 1; a >= 0; --a) {
    const auto axis = static_cast<Axis>(a);
    if (size(axis) > 1)
      text += (text.empty() ? "" : " x ") + std::string(name_of(axis)) + " " + std::to_string(size(axis));
  }
  return text.empty() ? "one rank" : text;
}

std::array<int, kAxes> coordinates(const MeshShape& shape, int rank) {
  std::array<int, kAxes> at{};
  for (int a = 0; a < kAxes; ++a) {
    at[static_cast<size_t>(a)] = rank % shape.size(static_cast<Axis>(a));
    rank /= shape.size(static_cast<Axis>(a));
  }
  return at;
}

int rank_at(const MeshShape& shape, const std::array<int, kAxes>& at) {
  int rank = 0;
  for (int a = kAxes - 1; a >= 0; --a)
    rank = rank * shape.size(static_cast<Axis>(a)) + at[static_cast<size_t>(a)];
  return rank;
}

Mesh::Mesh(Comm& world, const MeshShape& shape) : world_(world), shape_(shape) {
  for (int a = 0; a < kAxes; ++a)
    check(shape.size(static_cast<Axis>(a)) >= 1, Code::input, "[mesh] ", name_of(static_cast<Axis>(a)),
          " is ", shape.size(static_cast<Axis>(a)), ", at least 1");
  check(shape.ranks() == world.size(), Code::input, "[mesh] ", shape.text(), " needs ", shape.ranks(),
        " ranks, the world has ", world.size());
  at_ = coordinates(shape, world.rank());
  for (unsigned a = 0; a < kAxes; ++a) make(1u << a);
}

Comm& Mesh::make(unsigned set) {
  std::unique_ptr<Comm>& group = groups_[set];
  if (group) return *group;
  std::array<int, kAxes> origin = at_;
  std::string name;
  int key = 0;
  for (int a = kAxes - 1; a >= 0; --a) {
    if ((set >> a & 1u) == 0) continue;
    key = key * shape_.size(static_cast<Axis>(a)) + at_[static_cast<size_t>(a)];
    origin[static_cast<size_t>(a)] = 0;
    name += (name.empty() ? "" : "-") + std::string(name_of(static_cast<Axis>(a)));
  }
  group = world_.split(rank_at(shape_, origin), key, name);
  return *group;
}

Comm& Mesh::group(Axis axis) const {
  return *groups_.at(1u << static_cast<unsigned>(axis));
}

Comm& Mesh::group(std::initializer_list<Axis> axes) {
  unsigned set = 0;
  for (const Axis a : axes) set |= 1u << static_cast<unsigned>(a);
  check(set != 0, Code::bug, "[mesh] a group of no axes");
  return make(set);
}

}  // namespace llmctl
