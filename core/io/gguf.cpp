// SPDX-License-Identifier: Apache-2.0
#include "core/io/gguf.h"

#include <bit>
#include <cstring>

namespace llmctl {

namespace {

static_assert(std::endian::native == std::endian::little, "GGUF numbers are read in place");

enum Type : uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean_, string, array, u64, i64, f64, type_count };
constexpr uint64_t kMaxKeys = 1 << 16, kMaxKey = 65535;

class Reader {
 public:
  Reader(std::string_view bytes, const std::string& who) : bytes_(bytes), who_(who) {}
  template <class T>
  T number() {
    need(sizeof(T));
    T value;
    std::memcpy(&value, bytes_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return value;
  }
  std::string text(uint64_t most) {
    const auto size = number<uint64_t>();
    check(size <= most, Code::input, "[gguf] ", who_, ": a string of ", size, " bytes, at most ", most);
    need(size);
    std::string out(bytes_.substr(at_, size));
    at_ += size;
    return out;
  }
  // That `count` things of at least `bytes` each may follow.
  void need(uint64_t bytes, uint64_t count = 1) const {
    const uint64_t left = bytes_.size() - at_;
    check(count <= left / bytes, Code::input, "[gguf] ", who_, ": ends at byte ", bytes_.size(),
          ", inside its metadata");
  }
  uint64_t left() const { return bytes_.size() - at_; }

 private:
  std::string_view bytes_;
  const std::string& who_;
  uint64_t at_ = 0;
};

bool is_integer(uint32_t type) {
  return type <= i32 || type == u64 || type == i64 || type == boolean_;
}

int64_t integer_of(Reader& reader, uint32_t type) {
  switch (type) {
    case u8:
      return reader.number<uint8_t>();
    case i8:
      return reader.number<int8_t>();
    case u16:
      return reader.number<uint16_t>();
    case i16:
      return reader.number<int16_t>();
    case u32:
      return reader.number<uint32_t>();
    case i32:
      return reader.number<int32_t>();
    case boolean_:
      return reader.number<uint8_t>() != 0;
    default:
      return reader.number<int64_t>();  // counts above 2^63 have no meaning here
  }
}

double real_of(Reader& reader, uint32_t type) {
  return type == f32 ? static_cast<double>(reader.number<float>()) : reader.number<double>();
}

uint64_t least_size(uint32_t type) {
  constexpr uint8_t kSizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8};
  return kSizes[type];
}

GgufMetadata::Value list_of(Reader& reader, const std::string& who, const std::string& key) {
  const auto type = reader.number<uint32_t>();
  const auto count = reader.number<uint64_t>();
  check(type < type_count, Code::input, "[gguf] ", who, ": ", key, " has elements of type ", type);
  check(type != array, Code::unsupported, "[gguf] ", who, ": ", key, " is a list of lists");
  reader.need(least_size(type), count);
  if (type == string) {
    std::vector<std::string> list;
    for (uint64_t i = 0; i < count; ++i) list.push_back(reader.text(reader.left()));
    return list;
  }
  if (is_integer(type)) {
    std::vector<int64_t> list(count);
    for (int64_t& value : list) value = integer_of(reader, type);
    return list;
  }
  std::vector<double> list(count);
  for (double& value : list) value = real_of(reader, type);
  return list;
}

GgufMetadata::Value value_of(Reader& reader, const std::string& who, const std::string& key) {
  const auto type = reader.number<uint32_t>();
  check(type < type_count, Code::input, "[gguf] ", who, ": ", key, " is of type ", type,
        ", not one of 0..12");
  if (type == array) return list_of(reader, who, key);
  if (type == string) return reader.text(reader.left());
  if (type == boolean_) return reader.number<uint8_t>() != 0;
  if (is_integer(type)) return integer_of(reader, type);
  return real_of(reader, type);
}

}  // namespace

GgufMetadata::GgufMetadata(const fs::path& path) {
  const FileMap map(path);
  *this = parse({reinterpret_cast<const char*>(map.data()), map.size()}, path.string());
}

GgufMetadata GgufMetadata::parse(std::string_view bytes, const std::string& who) {
  check(bytes.starts_with("GGUF"), Code::input, "[gguf] ", who, ": does not begin with GGUF");
  Reader reader(bytes.substr(4), who);
  const auto version = reader.number<uint32_t>();
  check(version == 2 || version == 3, Code::unsupported, "[gguf] ", who, ": version ", version,
        ", only 2 and 3 are read");
  reader.number<uint64_t>();  // tensors
  const auto keys = reader.number<uint64_t>();
  check(keys <= kMaxKeys, Code::input, "[gguf] ", who, ": ", keys, " keys, at most ", kMaxKeys);
  GgufMetadata metadata;
  metadata.who_ = who;
  for (uint64_t i = 0; i < keys; ++i) {
    std::string key = reader.text(kMaxKey);
    Value value = value_of(reader, who, key);
    metadata.values_.insert_or_assign(std::move(key), std::move(value));
  }
  return metadata;
}

template <class T>
const T* GgufMetadata::find(const std::string& key, const char* type) const {
  const auto it = values_.find(key);
  if (it == values_.end()) return nullptr;
  const T* value = std::get_if<T>(&it->second);
  check(value != nullptr, Code::input, "[gguf] ", who_, ": ", key, " is not ", type);
  return value;
}

std::optional<std::string> GgufMetadata::text(const std::string& key) const {
  const auto* value = find<std::string>(key, "a string");
  return value ? std::optional(*value) : std::nullopt;
}
std::optional<int64_t> GgufMetadata::integer(const std::string& key) const {
  const auto* value = find<int64_t>(key, "an integer");
  return value ? std::optional(*value) : std::nullopt;
}
std::optional<bool> GgufMetadata::boolean(const std::string& key) const {
  const auto* value = find<bool>(key, "true or false");
  return value ? std::optional(*value) : std::nullopt;
}
const std::vector<std::string>* GgufMetadata::texts(const std::string& key) const {
  return find<std::vector<std::string>>(key, "a list of strings");
}
const std::vector<int64_t>* GgufMetadata::integers(const std::string& key) const {
  return find<std::vector<int64_t>>(key, "a list of integers");
}
const std::vector<double>* GgufMetadata::numbers(const std::string& key) const {
  return find<std::vector<double>>(key, "a list of numbers");
}

}  // namespace llmctl
