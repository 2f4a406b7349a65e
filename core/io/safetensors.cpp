// SPDX-License-Identifier: Apache-2.0
#include "core/io/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "core/base/json.h"

namespace llmctl {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors bytes are used in place");

constexpr uint64_t kMaxHeader = 100'000'000;  // the reference implementation's limit

struct DTypeName {
  const char* name;
  DType dtype;
};
constexpr DTypeName kDTypes[] = {{"F32", DType::f32}, {"BF16", DType::bf16}, {"F16", DType::f16},
                                 {"I64", DType::i64}, {"I32", DType::i32},   {"I8", DType::i8},
                                 {"U8", DType::u8},   {"U16", DType::u16},   {"U32", DType::u32}};

DType dtype_of(const std::string& name, const std::string& who) {
  for (const auto& d : kDTypes)
    if (name == d.name) return d.dtype;
  throw Error(Code::unsupported, who + ": dtype " + name + " is not supported");
}
const char* file_name_of(DType dtype) {
  for (const auto& d : kDTypes)
    if (dtype == d.dtype) return d.name;
  throw Error(Code::bug, "[safetensors] unnamed dtype");
}

struct Entry {
  std::string name;
  uint64_t begin, end;
};

// Shape and dtype of one header entry, checked against its byte range.
View parse_entry(const Json& entry, const std::string& who, uint64_t& begin, uint64_t& end) {
  check(entry.is_object() && entry.contains("dtype") && entry.contains("shape") && entry.contains("data_offsets"),
        Code::input, who, ": an entry needs dtype, shape and data_offsets");
  const Json &dtype = entry["dtype"], &shape = entry["shape"], &offsets = entry["data_offsets"];
  check(dtype.is_string() && shape.is_array() && offsets.is_array() && offsets.size() == 2 &&
            offsets[0].is_number_unsigned() && offsets[1].is_number_unsigned(),
        Code::input, who, ": dtype, shape or data_offsets has the wrong type");
  View v;
  v.dtype = dtype_of(dtype.get<std::string>(), who);
  check(shape.size() <= 4, Code::unsupported, who, ": ", shape.size(), " dimensions, at most 4 are supported");
  uint64_t bytes = static_cast<uint64_t>(size_of(v.dtype));
  for (const Json& d : shape) {
    check(d.is_number_unsigned(), Code::input, who, ": a dimension is not a natural number");
    const uint64_t n = d.get<uint64_t>();
    check(n < (uint64_t{1} << 40) && (n == 0 || bytes <= (uint64_t{1} << 50) / n), Code::input, who,
          ": the shape is too large");
    bytes *= n;
    v.dim[static_cast<size_t>(v.rank++)] = static_cast<int64_t>(n);
  }
  begin = offsets[0].get<uint64_t>();
  end = offsets[1].get<uint64_t>();
  check(begin <= end && end - begin == bytes, Code::input, who, ": data_offsets span ",
        end >= begin ? end - begin : 0, " bytes, shape and dtype need ", bytes);
  return v;
}

}  // namespace

SafeTensors::SafeTensors(const fs::path& path) : path_(path), map_(path) {
  const std::string file = "[safetensors] " + path.string();
  check(map_.size() >= 8, Code::input, file, ": ", map_.size(), " bytes is too short for a header");
  uint64_t header_bytes;
  std::memcpy(&header_bytes, map_.data(), 8);
  check(header_bytes <= kMaxHeader && header_bytes <= map_.size() - 8, Code::input, file, ": header of ",
        header_bytes, " bytes in a file of ", map_.size());
  const Json header =
      parse_json({reinterpret_cast<const char*>(map_.data()) + 8, static_cast<size_t>(header_bytes)}, file);
  check(header.is_object(), Code::input, file, ": the header is not an object");
  const uint64_t data_bytes = map_.size() - 8 - header_bytes;
  std::byte* data = const_cast<std::byte*>(map_.data()) + 8 + header_bytes;
  std::vector<Entry> entries;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") {
      check(entry.is_object(), Code::input, file, ": __metadata__ is not an object");
      for (const auto& [key, value] : entry.items()) {
        check(value.is_string(), Code::input, file, ": __metadata__.", key, " is not a string");
        metadata_[key] = value.get<std::string>();
      }
      continue;
    }
    Entry e{name, 0, 0};
    View v = parse_entry(entry, file + ": " + name, e.begin, e.end);
    check(e.end <= data_bytes, Code::input, file, ": ", name, " ends at byte ", e.end, " of ", data_bytes);
    v.data = data + e.begin;
    tensors_[name] = v;
    entries.push_back(e);
  }
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return std::tie(a.begin, a.end) < std::tie(b.begin, b.end); });
  uint64_t at = 0;
  for (const Entry& e : entries) {
    check(e.begin == at, Code::input, file, ": ", e.name, " starts at byte ", e.begin, ", expected ", at);
    at = e.end;
  }
  check(at == data_bytes, Code::input, file, ": ", data_bytes, " bytes of data, the header describes ", at);
}

View SafeTensors::at(const std::string& name) const {
  auto it = tensors_.find(name);
  check(it != tensors_.end(), Code::input, "[safetensors] ", path_.string(), ": no tensor named ", name);
  return it->second;
}

void save_safetensors(const fs::path& path, const std::vector<NamedView>& tensors,
                      const std::map<std::string, std::string>& metadata, bool overwrite) {
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  uint64_t at = 0;
  for (const NamedView& t : tensors) {
    check(!header.contains(t.name), Code::bug, "[safetensors] ", t.name, " twice");
    Json shape = Json::array();
    for (int i = 0; i < t.view.rank; ++i) shape.push_back(t.view.dim[static_cast<size_t>(i)]);
    const uint64_t end = at + static_cast<uint64_t>(t.view.bytes());
    header[t.name] = {{"dtype", file_name_of(t.view.dtype)}, {"shape", shape}, {"data_offsets", {at, end}}};
    at = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 8 + 63) / 64 * 64 - 8, ' ');
  OutputFile out(path, overwrite);
  const uint64_t length = text.size();
  out.write(&length, 8);
  out.write(text);
  std::vector<std::byte> buffer;
  for (const NamedView& t : tensors) {
    const auto bytes = static_cast<uint64_t>(t.view.bytes());
    if (t.fill) {
      buffer.resize(bytes);
      t.fill(buffer.data());
    }
    out.write(t.fill ? buffer.data() : t.view.data, bytes);
    if (t.written) t.written();
  }
  out.commit();
}

}  // namespace llmctl
