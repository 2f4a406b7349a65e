// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <random>

#include "data/records/columns.h"
#include "data/records/record_file.h"
#include "tests/scratch.h"

using namespace llmctl;

namespace {

Record record_of(uint64_t n) {
  Record r;
  r.file = 3;
  r.number = n * 2;  // some numbers were skipped
  r.offset = n * 100;
  r.length = n;
  r.kind = RecordKind::markdown;
  r.text = std::string(n * 37 % 5000, static_cast<char>('a' + n % 26));
  r.url = "http://example.com/" + std::to_string(n);
  r.licence = n % 2 ? "CC0" : "";
  return r;
}

Digest write(const fs::path& path, uint64_t records) {
  RecordFileWriter writer(path, true);
  for (uint64_t n = 0; n < records; ++n) writer.add(record_of(n));
  return writer.commit();
}

bool same(const Record& a, const Record& b) {
  return a.id() == b.id() && a.offset == b.offset && a.length == b.length && a.kind == b.kind &&
         a.text == b.text && a.url == b.url && a.licence == b.licence;
}

std::string read_fails(const fs::path& path) {
  try {
    RecordFile(path).read([](Record&&) {});
  } catch (const Error& e) {
    CHECK(e.code == Code::input);
    return e.what();
  }
  return "";
}

}  // namespace

TEST_CASE("records come back in order, by place and by id") {
  const ScratchFolder dir;
  const uint64_t count = 3000;
  const Digest digest = write(dir / "a.records", count);
  const RecordFile file(dir / "a.records");
  CHECK(file.records() == count);
  CHECK(file.blocks() > 2);
  CHECK(file.digest() == digest);
  uint64_t n = 0;
  bool all = true;
  file.read([&](Record&& r) { all = all && same(r, record_of(n++)); });
  CHECK(all);
  CHECK(n == count);
  for (const uint64_t place : {uint64_t{0}, uint64_t{1}, uint64_t{777}, count - 1}) {
    CHECK(same(file.at(place), record_of(place)));
    const auto found = file.find(record_of(place).id());
    REQUIRE(found);
    CHECK(same(*found, record_of(place)));
    CHECK(!file.find(record_of(place).id() + 1));
  }
  CHECK_THROWS_AS(file.at(count), Error);
  CHECK(write(dir / "b.records", count) == digest);
  CHECK(!(write(dir / "b.records", count - 1) == digest));
}

TEST_CASE("a file of no records is one") {
  const ScratchFolder dir;
  write(dir / "none.records", 0);
  CHECK(RecordFile(dir / "none.records").records() == 0);
  CHECK(!RecordFile(dir / "none.records").find(0));
}

TEST_CASE("damage to a file of records is named") {
  const ScratchFolder dir;
  const fs::path path = dir / "a.records";
  write(path, 1000);
  const std::string whole = read_file(path);
  std::mt19937_64 random(7);
  for (int i = 0; i < 200; ++i) {
    std::string bent = whole;
    bent[random() % bent.size()] ^= static_cast<char>(1 + random() % 255);
    write_file(path, bent, true);
    CHECK(read_fails(path).find("a.records") != std::string::npos);
  }
  for (size_t cut = 0; cut < whole.size(); cut += 1 + whole.size() / 100) {
    write_file(path, whole.substr(0, cut), true);
    CHECK(!read_fails(path).empty());
  }
}

TEST_CASE("random bytes are no files of records or columns", "[.fuzz]") {
  const ScratchFolder dir;
  std::mt19937_64 random(11);
  write(dir / "a", 50);
  const std::string whole = read_file(dir / "a");
  for (int i = 0; i < 20000; ++i) {
    std::string bent = whole;
    const size_t hits = 1 + random() % 12;
    for (size_t h = 0; h < hits; ++h) {  // lying lengths: at the end, where the index is
      const size_t at = random() % 3 ? bent.size() - 1 - random() % std::min<size_t>(200, bent.size())
                                     : random() % bent.size();
      bent[at] = static_cast<char>(random());
    }
    write_file(dir / "b", bent, true);
    try {
      RecordFile(dir / "b").read([](Record&&) {});
    } catch (const Error& e) {
      CHECK(e.code == Code::input);
    }
    try {
      Columns::load(dir / "b");
    } catch (const Error& e) {
      CHECK(e.code == Code::input);
    }
  }
}

TEST_CASE("columns come back, all or some") {
  const ScratchFolder dir;
  Columns c(5);
  c.add_real("score") = {0.5, -1, 1e300, std::numeric_limits<double>::quiet_NaN(), 0};
  c.add_integer("bytes") = {1, 2, 3, uint64_t{1} << 63, 5};
  const Digest digest = c.save(dir / "c", true);
  CHECK(c.save(dir / "d", true) == digest);
  const Columns back = Columns::load(dir / "c");
  CHECK(back.rows() == 5);
  CHECK(back.get("score").reals[2] == 1e300);
  CHECK(std::isnan(back.get("score").reals[3]));
  CHECK(back.get("bytes").integers[3] == uint64_t{1} << 63);
  const Columns some = Columns::load(dir / "c", {"bytes"});
  CHECK(some.find("score") == nullptr);
  CHECK(some.get("bytes").integers[4] == 5);
  CHECK_THROWS_WITH(some.get("byte"), Catch::Contains("did you mean bytes"));
  std::string bent = read_file(dir / "c");
  for (size_t at = 0; at < bent.size(); ++at) {
    std::string b = bent;
    b[at] ^= 1;
    write_file(dir / "e", b, true);
    CHECK_THROWS_AS(Columns::load(dir / "e"), Error);
  }
}
