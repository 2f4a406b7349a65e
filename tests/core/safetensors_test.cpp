// SPDX-License-Identifier: Apache-2.0
// Files that lie about themselves are refused with one line, never read past their end.
#include "core/io/safetensors.h"

#include <catch2/catch.hpp>
#include <chrono>
#include <cstring>
#include <unistd.h>

#include "core/io/tensor_store.h"
#include "kernels/random.h"
#include "tests/scratch.h"

using namespace llmctl;

namespace {

std::string file_bytes(const std::string& header, size_t data_bytes) {
  std::string bytes(8, '\0');
  const uint64_t length = header.size();
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + std::string(data_bytes, '\1');
}

const char* const kValid =
    R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},)"
    R"("b":{"dtype":"BF16","shape":[3],"data_offsets":[16,22]}})";

Code code_of(const fs::path& file, const std::string& bytes) {
  write_file(file, bytes, true);
  try {
    const SafeTensors read(file);
    // Every byte that a view promises must be there.
    uint64_t sum = 0;
    for (const auto& [name, view] : read.tensors())
      for (int64_t i = 0; i < view.bytes(); ++i) sum += view.as<uint8_t>()[i];
    return sum == ~uint64_t{0} ? Code::bug : Code{0};
  } catch (const Error& e) {
    CHECK(std::string(e.what()).find('\n') == std::string::npos);
    return e.code;
  }
}

}  // namespace

TEST_CASE("safetensors: what is written is read") {
  const ScratchFolder folder;
  const fs::path file = folder.path / "m.safetensors";
  std::vector<float> a = {1, 2, 3, 4, 5, 6};
  std::vector<int8_t> b = {-1, 7};
  save_safetensors(file, {{"x", View(a.data(), DType::f32, {2, 3})}, {"y", View(b.data(), DType::i8, {2})}},
                   {{"format", "pt"}}, false);
  const SafeTensors read(file);
  CHECK(read.metadata().at("format") == "pt");
  REQUIRE(read.at("x").bytes() == 24);
  CHECK(std::memcmp(read.at("x").data, a.data(), 24) == 0);
  CHECK(read.at("x").dim[1] == 3);
  CHECK(read.at("y").as<int8_t>()[1] == 7);
  CHECK_THROWS_WITH(read.at("z"), Catch::Contains("no tensor named z"));
  CHECK_THROWS_AS(save_safetensors(file, {}, {}, false), Error);  // does not overwrite
}

TEST_CASE("safetensors: malformed files are refused") {
  const ScratchFolder folder;
  const fs::path file = folder.path / "m.safetensors";
  CHECK(code_of(file, file_bytes(kValid, 22)) == Code{0});
  CHECK(code_of(file, file_bytes("{}", 0)) == Code{0});
  CHECK(code_of(file, "") == Code::input);
  CHECK(code_of(file, "1234567") == Code::input);
  CHECK(code_of(file, file_bytes(kValid, 21)) == Code::input);
  CHECK(code_of(file, file_bytes(kValid, 23)) == Code::input);
  CHECK(code_of(file, file_bytes(kValid, 22).substr(0, 40)) == Code::input);
  CHECK(code_of(file, std::string(8, '\xff') + kValid) == Code::input);
  const std::pair<const char*, Code> headers[] = {
      {"", Code::input},
      {"[]", Code::input},
      {"{", Code::input},
      {R"({"a":1})", Code::input},
      {R"({"a":{"shape":[4],"data_offsets":[0,16]}})", Code::input},
      {R"({"a":{"dtype":"F32","shape":4,"data_offsets":[0,16]}})", Code::input},
      {R"({"a":{"dtype":"F32","shape":[-4],"data_offsets":[0,16]}})", Code::input},
      {R"({"a":{"dtype":"F32","shape":[4.0],"data_offsets":[0,16]}})", Code::input},
      {R"({"a":{"dtype":"F32","shape":[5],"data_offsets":[0,16]}})", Code::input},
      {R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[16,0]}})", Code::input},
      {R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0]}})", Code::input},
      {R"({"a":{"dtype":"F32","shape":[4],"data_offsets":["0","16"]}})", Code::input},
      {R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[16,32]}})", Code::input},
      {R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[4,16]}})", Code::input},
      {R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", Code::input},
      {R"({"a":{"dtype":"F32","shape":[9223372036854775807],"data_offsets":[0,16]}})", Code::input},
      {R"({"a":{"dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,16]}})", Code::input},
      {R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"b":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})",
       Code::input},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", Code::input},
      {R"({"__metadata__":{"n":1},"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})", Code::input},
      {R"({"__metadata__":[],"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})", Code::input},
      {R"({"a":{"dtype":"F8_E4M3","shape":[16],"data_offsets":[0,16]}})", Code::unsupported},
      {R"({"a":{"dtype":"F32","shape":[1,1,1,2,2],"data_offsets":[0,16]}})", Code::unsupported},
  };
  for (const auto& [header, code] : headers) {
    INFO(header);
    CHECK(code_of(file, file_bytes(header, 16)) == code);
  }
}

TEST_CASE("safetensors: an index may not leave its folder or name a shard that is missing") {
  const ScratchFolder folder;
  const auto index = [&](const std::string& text) { write_file(folder.path / "model.safetensors.index.json", text, true); };
  CHECK_THROWS_WITH(TensorStore(folder.path), Catch::Contains("no model.safetensors"));
  index(R"({"weight_map":{"a":"../m.safetensors"}})");
  CHECK_THROWS_WITH(TensorStore(folder.path), Catch::Contains("leaves the folder"));
  index(R"({"weight_map":{"a":7}})");
  CHECK_THROWS_WITH(TensorStore(folder.path), Catch::Contains("no file name"));
  index(R"({"weight_map":[]})");
  CHECK_THROWS_WITH(TensorStore(folder.path), Catch::Contains("no weight_map"));
  index(R"({"weight_map":{"a":"absent.safetensors"}})");
  CHECK_THROWS_AS(TensorStore(folder.path), Error);
  float one = 1;
  const View v(&one, DType::f32, {1});
  for (const char* name : {"1.safetensors", "2.safetensors"}) save_safetensors(folder.path / name, {{"a", v}}, {}, true);
  index(R"({"weight_map":{"a":"1.safetensors","b":"2.safetensors"}})");
  CHECK_THROWS_WITH(TensorStore(folder.path), Catch::Contains("stands in two shards"));
}

TEST_CASE("safetensors: small changes to a valid file never do harm", "[.fuzz]") {
  const ScratchFolder folder;
  const fs::path file = folder.path / "m.safetensors";
  const std::string valid = file_bytes(kValid, 22);
  const std::string words[] = {"F32", "[", "]", "{", "}", "-1", "99999999999999999999", "1e9", "null", "\"", ",", "data_offsets"};
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  uint64_t round = 0;
  for (; std::chrono::steady_clock::now() < end; ++round) {
    std::string bytes = valid;
    uint64_t draw = 0;
    auto random = [&](uint64_t below) { return kn::random_below(kn::RandomKey{17, 0, 0}, round * 64 + draw++, below); };
    for (uint64_t changes = 1 + random(4); changes > 0 && !bytes.empty(); --changes) {
      const size_t at = random(bytes.size());
      switch (random(4)) {
        case 0: bytes[at] = static_cast<char>(random(256)); break;
        case 1: bytes.erase(at, 1 + random(8)); break;
        case 2: bytes.insert(at, words[random(std::size(words))]); break;
        default: bytes.resize(at + 1);
      }
    }
    const Code code = code_of(file, bytes);
    INFO("round " << round);
    REQUIRE((code == Code{0} || code == Code::input || code == Code::unsupported));
  }
  CHECK(round > 100);
}
