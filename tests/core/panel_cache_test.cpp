// SPDX-License-Identifier: Apache-2.0
#include "core/models/panel_cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <future>

#include "core/engine/load.h"
#include "core/quant/quantize.h"
#include "tests/core/tiny_model.h"
#include "tests/scratch.h"

namespace llmctl {
namespace {

using test::Machine;

void save_model(const fs::path& folder, const Json& hf, DType compute, int64_t seed, const kn::Exec& exec) {
  Model model(make_model_spec(hf, compute, "[test]"), Purpose::training, 64, exec);
  model.allocate();
  model.initialise(seed);
  fs::create_directories(folder);
  model.save(folder);
}

// Large enough for chunks that no sample looks at.
Json wide_llama() {
  Json hf = test::tiny_llama();
  hf["hidden_size"] = 512;
  hf["head_dim"] = 128;
  hf["vocab_size"] = 4096;
  hf["tie_word_embeddings"] = false;
  return hf;
}

PanelCacheOptions options_of(const fs::path& folder) { return {.use = true, .folder = folder, .min_bytes = 0}; }

std::vector<fs::path> files(const fs::path& folder, const char* extension) {
  std::vector<fs::path> found;
  if (fs::is_directory(folder))
    for (const auto& entry : fs::directory_iterator(folder))
      if (entry.path().extension() == extension) found.push_back(entry.path());
  std::sort(found.begin(), found.end());
  return found;
}

ino_t inode_of(const fs::path& path) {
  struct stat s {};
  return ::stat(path.c_str(), &s) == 0 ? s.st_ino : 0;
}

bool equal(const View& a, const View& b) {
  return a.bytes() == b.bytes() && (!a || std::memcmp(a.data, b.data, static_cast<size_t>(a.bytes())) == 0);
}

bool same_weights(const Model& a, const Model& b) {
  const auto &left = a.parameters().all(), &right = b.parameters().all();
  for (size_t i = 0; i < left.size(); ++i)
    if (!equal(left[i].rows, right[i].rows) || !equal(left[i].panels, right[i].panels) ||
        !equal(left[i].quant_panels, right[i].quant_panels))
      return false;
  return left.size() == right.size();
}

// Tokens and their log-probabilities.
std::vector<float> answer(Model& model, const kn::Exec& exec) {
  const auto engine = make_engine(model, EngineOptions{.context = 64, .max_batch = 1}, exec);
  std::vector<float> said;
  GenerationRequest request;
  for (int32_t i = 0; i < 20; ++i) request.prompt.push_back(i * 5);
  request.sampling.max_tokens = 12;
  request.sampling.temperature = 0;
  request.sampling.top_logprobs = 0;
  request.sampling.ignore_eos = true;
  std::promise<void> ended;
  request.sink = [&](const TokenOut& t) {
    said.insert(said.end(), {static_cast<float>(t.id), t.logprob});
    if (t.finish != Finish::none) ended.set_value();
    return true;
  };
  engine->submit(request);
  ended.get_future().wait();
  return said;
}

// A model in a scratch folder, loaded with and without a cache.
struct Case {
  ScratchFolder scratch;
  Machine machine;
  fs::path model = scratch / "model", cache = scratch / "cache";
  std::unique_ptr<Model> plain() { return load_model(model, Purpose::inference, 0, machine.exec); }
  std::unique_ptr<Model> cached(PanelCacheOptions options = {}) {
    if (!options.use) options = options_of(cache);
    return load_model(model, Purpose::inference, 0, machine.exec, options);
  }
  fs::path only_file() {
    const auto found = files(cache, ".panels");
    REQUIRE(found.size() == 1);
    return found[0];
  }
  // A changed file costs a load its gain, never its answer: the weights are right and a new file is there.
  void check_replaced() {
    const fs::path file = only_file();
    const ino_t before = inode_of(file);
    const int keep = ::open(file.c_str(), O_RDONLY);  // so that the number is not given out again
    CHECK(same_weights(*plain(), *cached()));
    CHECK(inode_of(file) != before);
    ::close(keep);
    const ino_t after = inode_of(file);
    CHECK(same_weights(*plain(), *cached()));
    CHECK(inode_of(file) == after);
    CHECK(only_file() == file);
  }
};

void overwrite(const fs::path& path, int64_t at, const std::string& bytes) {
  const int fd = ::open(path.c_str(), O_WRONLY);
  REQUIRE(::pwrite(fd, bytes.data(), bytes.size(), at) == static_cast<ssize_t>(bytes.size()));
  ::close(fd);
}

constexpr int64_t kData = int64_t{2} << 20;

}  // namespace

TEST_CASE("The cache's weights and answers are those of packing", "[panel-cache]") {
  const int kind = GENERATE(0, 1, 2, 3, 4, 5);
  Case c;
  const fs::path base = kind < 4 ? c.model : c.scratch / "base";
  const DType compute = kind % 2 ? DType::bf16 : DType::f32;
  save_model(base, kind == 2 || kind == 3 ? test::tiny_gpt2() : kind >= 4 ? wide_llama() : test::tiny_llama(), compute, 5,
             c.machine.exec);
  if (kind >= 4) {
    const auto source = load_model(base, Purpose::inference, 0, c.machine.exec);
    fs::create_directories(c.model);
    quantise_folder(base, *source, c.model, {.bits = kind == 4 ? 8 : 4}, c.machine.exec);
  }
  INFO("kind " << kind);
  const auto plain = c.plain();
  const auto written = c.cached();
  const ino_t made = inode_of(c.only_file());
  const auto mapped = c.cached();
  CHECK(inode_of(c.only_file()) == made);
  CHECK(same_weights(*plain, *written));
  CHECK(same_weights(*plain, *mapped));
  const std::vector<float> expected = answer(*plain, c.machine.exec);
  CHECK(expected.size() == 24);
  CHECK(answer(*written, c.machine.exec) == expected);
  CHECK(answer(*mapped, c.machine.exec) == expected);
}

TEST_CASE("A cache file that is not what was written is made again", "[panel-cache]") {
  Case c;
  save_model(c.model, wide_llama(), DType::bf16, 5, c.machine.exec);
  c.cached();
  const fs::path file = c.only_file();
  SECTION("another format") { overwrite(file, 14, "2"); }
  SECTION("another key") { overwrite(file, 24, "x"); }
  SECTION("a digest of the table") { overwrite(file, 4096 + 16, "x"); }
  SECTION("cut short") { fs::resize_file(file, fs::file_size(file) - 4096); }
  SECTION("empty") { fs::resize_file(file, 0); }
  SECTION("the first weights") { overwrite(file, kData + 1000, "x"); }
  SECTION("weights that no sample looks at") { overwrite(file, kData + kDigestChunk + 1000, "xyz"); }
  SECTION("a stamp of another boot, and damage that left no time") {
    struct stat s {};
    REQUIRE(::stat(file.c_str(), &s) == 0);
    overwrite(file, kData + kDigestChunk + 1000, "xyz");
    overwrite(file, 512, "0");
    const timespec times[2] = {s.st_atim, s.st_mtim};
    REQUIRE(::utimensat(AT_FDCWD, file.c_str(), times, 0) == 0);
  }
  c.check_replaced();
}

TEST_CASE("A file of another boot is compared once and kept", "[panel-cache]") {
  Case c;
  save_model(c.model, wide_llama(), DType::bf16, 5, c.machine.exec);
  c.cached();
  const fs::path file = c.only_file();
  const ino_t made = inode_of(file);
  const auto stamp = [&] {
    char text[64] = {};
    const int fd = ::open(file.c_str(), O_RDONLY);
    REQUIRE(::pread(fd, text, sizeof text, 512) == sizeof text);
    ::close(fd);
    return std::string(text, sizeof text);
  };
  overwrite(file, 512, "another boot");
  CHECK(same_weights(*c.plain(), *c.cached()));
  CHECK(inode_of(file) == made);
  const std::string renewed = stamp();
  CHECK(renewed.find("another boot") == std::string::npos);
  c.cached();
  CHECK(stamp() == renewed);
}

TEST_CASE("Changed weights are another key", "[panel-cache]") {
  Case c;
  save_model(c.model, test::tiny_llama(), DType::bf16, 5, c.machine.exec);
  const auto before = c.cached();
  save_model(c.model, test::tiny_llama(), DType::bf16, 6, c.machine.exec);
  const auto after = c.cached();
  CHECK(same_weights(*c.plain(), *after));
  CHECK_FALSE(same_weights(*before, *after));
  CHECK(files(c.cache, ".panels").size() == 2);
}

TEST_CASE("Digests are remembered by the file's identity, once its clock has moved on", "[panel-cache]") {
  Case c;
  const fs::path file = c.scratch.put("weights", std::string(5 << 20, 'w')), folder = c.scratch.make("cache");
  const Digest fresh = remembered_digest(file, folder, c.machine.exec);
  CHECK(fresh == content_digest(file, c.machine.exec));
  CHECK(files(folder, ".digest").empty());  // changed just now
  ::usleep(2'100'000);
  CHECK(remembered_digest(file, folder, c.machine.exec) == fresh);
  REQUIRE(files(folder, ".digest").size() == 1);
  // What is remembered is what is answered; a file that cannot be understood is not.
  std::ofstream(files(folder, ".digest")[0]) << std::string(32, '7') << "\n";
  CHECK(remembered_digest(file, folder, c.machine.exec) == Digest::from_hex(std::string(32, '7')));
  std::ofstream(files(folder, ".digest")[0]) << "???";
  CHECK(remembered_digest(file, folder, c.machine.exec) == fresh);
  // A write of the same size whose time of last write was set back.
  struct stat s {};
  REQUIRE(::stat(file.c_str(), &s) == 0);
  overwrite(file, 3 << 20, "x");
  const timespec times[2] = {s.st_atim, s.st_mtim};
  REQUIRE(::utimensat(AT_FDCWD, file.c_str(), times, 0) == 0);
  CHECK(remembered_digest(file, folder, c.machine.exec) == content_digest(file, c.machine.exec));
  CHECK(content_digest(file, c.machine.exec) != fresh);
}

TEST_CASE("One process writes a file at a time; a write that died is taken over", "[panel-cache]") {
  Case c;
  save_model(c.model, test::tiny_llama(), DType::bf16, 5, c.machine.exec);
  c.cached();
  const fs::path file = c.only_file(), partial = fs::path(file).replace_extension(".partial");
  CHECK_FALSE(fs::exists(partial));
  fs::remove(file);
  const int other = ::open(partial.c_str(), O_RDWR | O_CREAT, 0600);
  REQUIRE(::write(other, "half", 4) == 4);
  REQUIRE(::flock(other, LOCK_EX) == 0);
  CHECK(same_weights(*c.plain(), *c.cached()));
  CHECK(files(c.cache, ".panels").empty());
  CHECK(fs::file_size(partial) == 4);  // theirs, untouched
  ::close(other);
  CHECK(same_weights(*c.plain(), *c.cached()));
  CHECK(c.only_file() == file);
  CHECK_FALSE(fs::exists(partial));
}

TEST_CASE("A folder that cannot be used costs the cache alone", "[panel-cache]") {
  Case c;
  save_model(c.model, test::tiny_llama(), DType::bf16, 5, c.machine.exec);
  const auto plain = c.plain();
  c.scratch.put("file", "x");
  CHECK(same_weights(*plain, *c.cached(options_of(c.scratch.path / "file" / "cache"))));
  CHECK(same_weights(*plain, *c.cached(options_of("/proc/llmctl-cache"))));
  CHECK(same_weights(*plain, *c.cached(options_of("/proc"))));
  const fs::path shared = c.scratch.path / "shared";  // others could plant a file there
  fs::create_directories(shared);
  fs::permissions(shared, fs::perms::all);
  CHECK(same_weights(*plain, *c.cached(options_of(shared))));
  CHECK(fs::is_empty(shared));
  PanelCacheOptions small = options_of(c.cache);
  small.min_bytes = int64_t{64} << 20;
  CHECK(same_weights(*plain, *c.cached(small)));
  small = options_of(c.cache);
  small.max_bytes = 1 << 20;  // less than the file
  CHECK(same_weights(*plain, *c.cached(small)));
  CHECK(files(c.cache, ".panels").empty());
  CHECK(files(c.cache, ".partial").empty());
}

TEST_CASE("The models used last stay", "[panel-cache]") {
  Case c;
  std::vector<fs::path> order;  // files as they were made
  const auto load = [&](int64_t seed) {
    c.model = c.scratch.path / std::to_string(seed);
    if (!fs::exists(c.model)) save_model(c.model, test::tiny_llama(), DType::bf16, seed, c.machine.exec);
    c.cached();
    for (const fs::path& f : files(c.cache, ".panels"))
      if (std::find(order.begin(), order.end(), f) == order.end()) order.push_back(f);
  };
  for (int64_t seed : {1, 2, 3, 4}) load(seed);
  CHECK(files(c.cache, ".panels").size() == 4);
  load(1);
  load(5);
  CHECK(files(c.cache, ".panels").size() == 4);
  CHECK(fs::exists(order[0]));
  CHECK_FALSE(fs::exists(order[1]));
  c.scratch.put("cache/" + std::string(32, 'd') + ".partial", "x");
  c.scratch.put("cache/download.partial", "x");  // of somebody else
  PanelCacheOptions bounded = options_of(c.cache);
  bounded.max_bytes = static_cast<int64_t>(2 * fs::file_size(order[0]));
  fs::remove(order[4]);
  c.cached(bounded);  // made again
  CHECK(files(c.cache, ".panels").size() == 2);
  CHECK(fs::exists(order[4]));
  CHECK(fs::exists(order[0]));
  CHECK(files(c.cache, ".partial") == std::vector<fs::path>{c.cache / "download.partial"});
}

}  // namespace llmctl
