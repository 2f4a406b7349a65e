// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <catch2/catch.hpp>

#include "core/base/digest.h"
#include "core/base/json.h"
#include "tests/scratch.h"

using namespace llmctl;

namespace {

std::string gzip(const std::string& text) {
  z_stream z{};
  REQUIRE(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string out(deflateBound(&z, text.size()) + 64, '\0');
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  z.avail_in = static_cast<uInt>(text.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  REQUIRE(deflate(&z, Z_FINISH) == Z_STREAM_END);
  out.resize(z.total_out);
  deflateEnd(&z);
  return out;
}
std::string zstd(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}
size_t entries(const fs::path& folder) {
  return static_cast<size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

}  // namespace

TEST_CASE("files: an output appears complete or not at all") {
  ScratchFolder dir;
  {
    OutputFile out(dir / "a.txt", false);
    out.write("half");
    CHECK(out.written() == 4);
    CHECK_FALSE(fs::exists(dir / "a.txt"));
  }
  CHECK(entries(dir.path) == 0);
  write_file(dir / "a.txt", "whole", false);
  CHECK(read_file(dir / "a.txt") == "whole");
  CHECK(code_of([&] { write_file(dir / "a.txt", "x", false); }) == Code::usage);
  write_file(dir / "a.txt", "again", true);
  CHECK(read_file(dir / "a.txt") == "again");
  CHECK(entries(dir.path) == 1);
  CHECK(code_of([&] { write_file(dir / "none" / "a.txt", "x", false); }) == Code::io);
  CHECK(code_of([&] { write_file(dir.path, "x", true); }) == Code::usage);
}

TEST_CASE("files: a full disk is an error, not a file") {
  if (!fs::exists("/dev/full")) return;
  CHECK(code_of([] { write_file("/dev/full", "x", true); }) == Code::io);
}

TEST_CASE("files: a folder appears complete or not at all") {
  ScratchFolder dir;
  { OutputFolder lost(dir / "out", false); }
  CHECK(entries(dir.path) == 0);
  for (bool overwrite : {false, true}) {
    OutputFolder out(dir / "out", overwrite);
    write_file(out.path() / "f", overwrite ? "two" : "one", false);
    out.commit();
  }
  CHECK(read_file(dir / "out" / "f") == "two");
  CHECK(entries(dir.path) == 1);
  CHECK(code_of([&] { OutputFolder again(dir / "out", false); }) == Code::usage);
  CHECK(code_of([&] { OutputFolder under(dir / "out" / "f" / "x", false); }) == Code::io);
}

TEST_CASE("files: reading what is not there") {
  ScratchFolder dir;
  CHECK(code_of([&] { read_file(dir / "none"); }) == Code::input);
  CHECK(code_of([&] { read_file(dir.path); }) == Code::input);
  CHECK(code_of([&] { FileMap map(dir / "none"); }) == Code::input);
  CHECK(code_of([&] { ByteReader reader(dir / "none"); }) == Code::input);
  write_file(dir / "a", "12345", false);
  CHECK(code_of([&] { read_file(dir / "a", 4); }) == Code::input);
  write_file(dir / "empty", "", false);
  CHECK(FileMap(dir / "empty").size() == 0);
  FileMap map(dir / "a");
  CHECK(std::string(reinterpret_cast<const char*>(map.data()), map.size()) == "12345");
}

TEST_CASE("files: plain, gzip and zstd give the same bytes") {
  ScratchFolder dir;
  std::string text;
  for (int i = 0; i < 200000; ++i)
    text += "line " + std::to_string(i * 7919 % 100003) + (i % 3 ? "\n" : " \r\n");
  std::string half = text.substr(0, text.size() / 2), other = text.substr(text.size() / 2);
  write_file(dir / "t.txt", text, false);
  write_file(dir / "t.gz", gzip(half) + gzip(other), false);
  write_file(dir / "t.zst", zstd(half) + zstd(other), false);
  for (const char* name : {"t.txt", "t.gz", "t.zst"}) {
    CHECK(ByteReader(dir / name).rest() == text);
    ByteReader reader(dir / name);
    std::string joined, line;
    while (reader.line(line)) joined += line + "\n";
    CHECK(joined == text);
    CHECK(code_of([&] { ByteReader(dir / name).rest(1000); }) == Code::input);
  }
  for (const char* name : {"t.gz", "t.zst"}) {
    std::string bytes = read_file(dir / name);
    write_file(dir / name, bytes.substr(0, bytes.size() - 20), true);
    CHECK(code_of([&] { ByteReader(dir / name).rest(); }) == Code::input);
    write_file(dir / name, "not packed at all", true);
    CHECK(code_of([&] { ByteReader(dir / name).rest(); }) == Code::input);
    write_file(dir / name, "", true);
    CHECK(ByteReader(dir / name).rest().empty());
  }
  write_file(dir / "long", std::string(100, 'x') + "\nlast", false);
  ByteReader reader(dir / "long");
  std::string line;
  CHECK(code_of([&] { reader.line(line, 99); }) == Code::input);
}

TEST_CASE("files: inputs are files, folders and globs, sorted") {
  ScratchFolder dir;
  fs::create_directories(dir / "d" / "e");
  for (const char* name : {"b.txt", "a.txt", "d/z", "d/e/y", "d/.hidden"}) write_file(dir / name, "", false);
  auto names = [&](std::vector<std::string> inputs) {
    std::string out;
    for (std::string& i : inputs) i = (dir.path / i).string();
    for (const auto& p : expand_inputs(inputs)) out += fs::relative(p, dir.path).string() + " ";
    return out;
  };
  CHECK(names({"."}) == "a.txt b.txt d/e/y d/z ");
  CHECK(names({"*.txt"}) == "a.txt b.txt ");
  CHECK(names({"b.txt", "d*"}) == "b.txt d/e/y d/z ");
  CHECK(expand_inputs({"-"}).at(0) == "-");
  CHECK(code_of([&] { names({"*.none"}); }) == Code::input);
  CHECK(code_of([] { expand_inputs({}); }) == Code::input);
}

TEST_CASE("digest: known value, hex and sum") {
  Digest empty = digest_of("");  // published for XXH3-128 of no bytes
  CHECK(empty.hex() == "99aa06d3014798d86001c324468d497f");
  CHECK(Digest::from_hex(empty.hex()) == empty);
  CHECK(code_of([] { Digest::from_hex("99"); }) == Code::input);
  CHECK(code_of([] { Digest::from_hex(std::string(32, 'g')); }) == Code::input);
  Digest sum{~uint64_t{0}, 1};
  sum += Digest{1, 1};
  CHECK(sum == Digest{0, 3});
}

TEST_CASE("json: comments, order, last key wins, limits") {
  Json json =
      parse_json("{\"b\": 1, /* c */ \"a\": [true, null, 1.5, \"\\u00e9\"], \"b\": {\"x\": -2}} // end", "t");
  CHECK(json.dump() == "{\"b\":{\"x\":-2},\"a\":[true,null,1.5,\"\xc3\xa9\"]}");
  CHECK(code_of([] { parse_json("{\"a\": }", "t"); }) == Code::input);
  CHECK(code_of([] { parse_json("", "t"); }) == Code::input);
  CHECK(code_of([] { parse_json("{} x", "t"); }) == Code::input);
  CHECK(code_of([] { parse_json("\"\xff\"", "t"); }) == Code::input);
  CHECK(parse_json(std::string(256, '[') + std::string(256, ']'), "t").is_array());
  CHECK(code_of([] { parse_json(std::string(257, '[') + std::string(257, ']'), "t"); }) == Code::input);
  CHECK(code_of([] { parse_json(std::string(1 << 20, '['), "t"); }) == Code::input);
}

TEST_CASE("json: a vocabulary reads in linear time") {
  Json vocabulary = Json::object();
  for (int i = 0; i < 200000; ++i) append(vocabulary, "token " + std::to_string(i), i);
  Json back = parse_json(json_text(vocabulary), "vocabulary");
  CHECK(back == vocabulary);
}
