// SPDX-License-Identifier: Apache-2.0
#include "data/records/columns.h"

#include <algorithm>
#include <cstring>
#include <fstream>

#include "core/base/config.h"

namespace llmctl {
namespace {

constexpr char kMagic[8] = "LLMCOL1";  // with its closing zero
constexpr uint32_t kMostColumns = 4096, kLongestName = 1024;

template <class T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

class Input {
 public:
  explicit Input(const fs::path& path) : name_(path.string()), in_(path, std::ios::binary) {
    check(in_.good(), Code::input, "[columns] ", name_, ": cannot be read");
    size_ = fs::file_size(path);
  }
  void bytes(void* out, uint64_t n) {
    in_.read(static_cast<char*>(out), static_cast<std::streamsize>(n));
    sound(static_cast<uint64_t>(in_.gcount()) == n, "is cut off");
  }
  template <class T>
  T number(std::string& seen) {
    T value;
    bytes(&value, sizeof value);
    put(seen, value);
    return value;
  }
  void skip(uint64_t n) { in_.seekg(static_cast<std::streamoff>(n), std::ios::cur); }
  void sound(bool ok, const std::string& what) const {
    check(ok, Code::input, "[columns] ", name_, ": ", what, "; delete it and run again");
  }
  uint64_t size() const { return size_; }

 private:
  std::string name_;
  std::ifstream in_;
  uint64_t size_ = 0;
};

const void* data_of(const Column& c) {
  return c.whole ? static_cast<const void*>(c.integers.data()) : c.reals.data();
}

}  // namespace

void Columns::resize(uint64_t rows) {
  rows_ = rows;
  for (Column& c : columns_) c.whole ? c.integers.resize(rows) : c.reals.resize(rows);
}

Column& Columns::add(const std::string& name, bool whole) {
  check(!find(name), Code::bug, "[columns] two columns named ", name);
  Column& c = columns_.emplace_back();
  c.name = name;
  c.whole = whole;
  whole ? c.integers.resize(rows_) : c.reals.resize(rows_);
  return c;
}
std::vector<double>& Columns::add_real(const std::string& name) {
  return add(name, false).reals;
}
std::vector<uint64_t>& Columns::add_integer(const std::string& name) {
  return add(name, true).integers;
}

const Column* Columns::find(const std::string& name) const {
  const auto at =
      std::find_if(columns_.begin(), columns_.end(), [&](const Column& c) { return c.name == name; });
  return at == columns_.end() ? nullptr : &*at;
}

const Column& Columns::get(const std::string& name) const {
  if (const Column* c = find(name)) return *c;
  std::vector<std::string> names;
  for (const Column& c : columns_) names.push_back(c.name);
  const std::string near = closest_name(name, names);
  throw Error(Code::input,
              "[columns] no column " + name + (near.empty() ? "" : ", did you mean " + near + "?"));
}

Digest Columns::save(const fs::path& path, bool overwrite) const {
  std::string head(kMagic, sizeof kMagic);
  put(head, rows_);
  put(head, static_cast<uint32_t>(columns_.size()));
  for (const Column& c : columns_) {
    put(head, static_cast<uint8_t>(c.whole));
    put(head, static_cast<uint32_t>(c.name.size()));
    head += c.name;
  }
  put(head, digest_of(head).low);
  OutputFile out(path, overwrite);
  out.write(head);
  std::string digests = digest_of(head).hex();
  for (const Column& c : columns_) {
    const Digest d = digest_of(data_of(c), rows_ * 8);
    if (rows_ > 0) out.write(data_of(c), rows_ * 8);
    out.write(&d.low, sizeof d.low);
    digests += d.hex();
  }
  out.commit();
  return digest_of(digests);
}

Columns Columns::load(const fs::path& path, const std::vector<std::string>& only) {
  Input in(path);
  std::string head(sizeof kMagic, '\0');
  in.bytes(head.data(), head.size());
  in.sound(std::memcmp(head.data(), kMagic, sizeof kMagic) == 0, "is no file of columns");
  const auto rows = in.number<uint64_t>(head);
  const auto n = in.number<uint32_t>(head);
  in.sound(n <= kMostColumns && rows <= in.size() / 8, "its head is damaged");
  std::vector<std::pair<std::string, bool>> names(n);
  for (auto& [name, whole] : names) {
    whole = in.number<uint8_t>(head) != 0;
    const auto length = in.number<uint32_t>(head);
    in.sound(length <= kLongestName, "its head is damaged");
    name.resize(length);
    in.bytes(name.data(), length);
    head += name;
  }
  std::string unused;
  in.sound(in.number<uint64_t>(unused) == digest_of(head).low, "its head is damaged");
  in.sound(in.size() == head.size() + 8 + n * (rows * 8 + 8), "is cut off");
  Columns out(rows);
  for (const auto& [name, whole] : names) {
    if (!only.empty() && std::find(only.begin(), only.end(), name) == only.end()) {
      in.skip(rows * 8 + 8);
      continue;
    }
    Column& c = out.add(name, whole);
    in.bytes(const_cast<void*>(data_of(c)), rows * 8);
    in.sound(in.number<uint64_t>(unused) == digest_of(data_of(c), rows * 8).low,
             "column " + name + " is damaged");
  }
  return out;
}

}  // namespace llmctl
