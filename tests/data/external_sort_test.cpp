// SPDX-License-Identifier: Apache-2.0
#include "data/dedup/external_sort.h"

#include <sys/resource.h>

#include <csignal>
#include <fstream>

#include "dedup_samples.h"

using namespace llmctl;

namespace {

struct Row {
  uint64_t key, value;
  bool operator==(const Row&) const = default;
};
struct ByKey {
  bool operator()(const Row& a, const Row& b) const { return a.key < b.key; }
};
using Sort = ExternalSort<Row, ByKey>;

std::vector<Row> sample_rows(size_t n, uint64_t seed) {
  std::vector<Row> rows;
  for (size_t i = 0; i < n; ++i) rows.push_back({keyed_bits(seed, i) % 5000, keyed_bits(seed + 1, i) % 16});
  return rows;
}

std::vector<Row> sorted_by(Sort& sort, const std::vector<Row>& rows) {
  for (const Row& r : rows) sort.add(r);
  std::vector<Row> out;
  sort.finish([&](const Row& r) { out.push_back(r); });
  return out;
}

size_t files_in(const fs::path& folder) {
  return static_cast<size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

}  // namespace

TEST_CASE("one order for any memory, threads and arrival; nothing is left behind", "[external_sort]") {
  ScratchFolder scratch;
  std::vector<Row> rows = sample_rows(400'000, 1), want = rows;
  std::sort(want.begin(), want.end(),
            [](const Row& a, const Row& b) { return std::pair(a.key, a.value) < std::pair(b.key, b.value); });
  for (const int threads : {1, 2, 4})
    for (const uint64_t memory : {uint64_t{0}, uint64_t{3} << 20, uint64_t{1} << 30}) {
      Threads t(threads);
      Sort sort({scratch.path, "rows", memory}, t.exec);
      // Little-endian bytes of (key, value) are no numeric order: rows of one key are compared by bytes, and
      // values below 16 have one byte that counts.
      CHECK(sorted_by(sort, rows) == want);
      CHECK((sort.spilled_bytes() > 0) == (memory < uint64_t{1} << 30));
      CHECK(files_in(scratch.path) == 0);
      std::reverse(rows.begin(), rows.end());
    }
}

TEST_CASE("more runs than can be read at once are merged in rounds", "[external_sort]") {
  ScratchFolder scratch;
  Threads t(2);
  Sort sort({scratch.path, "rows", 0}, t.exec);  // 1 MiB: 16 runs at once; 32 MB make 31
  const std::vector<Row> rows = sample_rows(2'000'000, 2);
  const std::vector<Row> out = sorted_by(sort, rows);
  CHECK(out.size() == rows.size());
  CHECK(std::is_sorted(out.begin(), out.end(), ByKey()));
  uint64_t sum = 0, want = 0;
  for (const Row& r : out) sum += keyed_bits(r.key, r.value);
  for (const Row& r : rows) want += keyed_bits(r.key, r.value);
  CHECK(sum == want);
  CHECK(sort.spilled_bytes() > rows.size() * sizeof(Row) * 3 / 2);
}

TEST_CASE("nothing sorts to nothing", "[external_sort]") {
  ScratchFolder scratch;
  Threads t(2);
  Sort sort({scratch.path, "rows", 0}, t.exec);
  CHECK(sorted_by(sort, {}).empty());
  Sort nowhere({scratch.path / "absent", "rows", 0}, t.exec);
  CHECK(code_of([&] { sorted_by(nowhere, sample_rows(200'000, 1)); }) == Code::io);
}

TEST_CASE("a spilled file with a changed byte, a cut or a swap is found", "[external_sort]") {
  const std::vector<Row> rows = sample_rows(300'000, 3);
  const auto with_damage = [&](const std::function<void(const fs::path&, const fs::path&)>& damage) {
    ScratchFolder scratch;
    Threads t(1);
    Code code{0};
    {
      Sort sort({scratch.path, "rows", 0}, t.exec);
      for (const Row& r : rows) sort.add(r);
      damage(scratch.path / "rows-0.run", scratch.path / "rows-1.run");
      code = code_of([&] { sort.finish([](const Row&) {}); });
    }
    CHECK(files_in(scratch.path) == 0);
    return code;
  };
  const auto put = [](const fs::path& file, std::streamoff at, const std::string& bytes) {
    std::fstream f(file, std::ios::in | std::ios::out | std::ios::binary);
    f.seekp(at);
    f << bytes;
  };
  CHECK(with_damage([](const fs::path&, const fs::path&) {}) == Code{0});
  CHECK(with_damage([&](const fs::path& a, const fs::path&) { put(a, 100'000, "\x7f"); }) == Code::io);
  CHECK(with_damage([&](const fs::path& a, const fs::path&) { put(a, 65536, "\x7f"); }) == Code::io);
  CHECK(with_damage([](const fs::path& a, const fs::path&) { fs::resize_file(a, fs::file_size(a) - 1); }) ==
        Code::io);
  CHECK(with_damage([](const fs::path& a, const fs::path&) { fs::resize_file(a, 0); }) == Code::io);
  CHECK(with_damage([&](const fs::path& a, const fs::path& b) {
          const std::string whole = read_file(b);
          put(a, 0, whole.substr(0, fs::file_size(a)));
        }) == Code::io);
}

TEST_CASE("a full disk is said, and the files go", "[external_sort]") {
  ScratchFolder scratch;
  Threads t(1);
  rlimit before{};
  ::getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit small = before;
  small.rlim_cur = 300'000;
  ::setrlimit(RLIMIT_FSIZE, &small);
  std::optional<std::string> said;
  {
    Sort sort({scratch.path, "rows", 0}, t.exec);
    try {
      sorted_by(sort, sample_rows(300'000, 4));
    } catch (const Error& e) {
      said = e.what();
      CHECK(e.code == Code::io);
    }
  }
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  REQUIRE(said.has_value());
  CHECK(said->find("rows") != std::string::npos);
  CHECK(said->find("free space") != std::string::npos);
  CHECK(files_in(scratch.path) == 0);
}
