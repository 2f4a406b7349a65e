// SPDX-License-Identifier: Apache-2.0
#include <zstd.h>

#include <chrono>
#include <cstdlib>

#include "core/base/members.h"
#include "data/packed/counter_random.h"
#include "data/web/charset.h"
#include "web_samples.h"

using namespace llmctl;

namespace {

const std::string kPage = "<html><body><p>One page.</p></body></html>";

std::string zstd_frame(const std::string& plain) {
  std::string out(ZSTD_compressBound(plain.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), plain.data(), plain.size(), 3));
  return out;
}

// Three pages, each a member.
std::vector<std::string> three_members() {
  std::vector<std::string> members;
  for (const char* name : {"first", "second", "third"}) {
    std::string body = "<p>" + std::string(name) + "</p>";
    CounterRandom random(1, members.size());
    for (int i = 0; i < 4000; ++i) body += static_cast<char>('a' + random.below(26));
    members.push_back(packed(page(body).text()));
  }
  return members;
}

}  // namespace

TEST_CASE("WARC records keep where they came from", "[web]") {
  WarcRecord info;
  info.type = "warcinfo";
  info.block = "isPartOf: CC-TEST\r\nlicence: none\r\n";
  WarcRecord request = page("");
  request.type = "request";
  WarcRecord good = page(kPage,
                         "content-type: text/html; charset=UTF-8\r\nContent-Language: de\r\n"
                         "Link: <http://l.example/by>; rel=\"license\"\r\n");
  const std::vector<std::string> texts = {info.text(), request.text(), good.text()};
  const std::string gz = packed(texts[0]) + packed(texts[1]) + packed(texts[2]);
  for (const bool zipped : {true, false}) {
    const Read read =
        zipped ? read_bytes("a.warc.gz", gz) : read_bytes("a.warc", texts[0] + texts[1] + texts[2]);
    REQUIRE(read.records.size() == 1);
    const Record& r = read.records[0];
    CHECK(r.text == kPage);
    CHECK(r.kind == RecordKind::html);
    CHECK(r.url == "http://a.example/");  // trap 21: <uri>
    CHECK(r.date == "2024-05-18T01:58:10Z");
    CHECK(r.language == "de");
    CHECK(r.licence == "http://l.example/by");
    CHECK(r.source == "CC-TEST");
    CHECK(r.file == 7);
    CHECK(r.number == 2);
    const uint64_t before =
        zipped ? packed(texts[0]).size() + packed(texts[1]).size() : (texts[0] + texts[1]).size();
    CHECK(r.offset == before);
    CHECK(r.length == (zipped ? packed(texts[2]).size() : texts[2].size() - 4));
    CHECK(read.counts.skipped == std::map<std::string, uint64_t>{{"request", 1}, {"warcinfo", 1}});
    CHECK(read.counts.repaired.empty());
  }
  const Read zstd =
      read_bytes("a.warc.zst", zstd_frame(texts[0]) + zstd_frame(texts[1]) + zstd_frame(texts[2]));
  REQUIRE(zstd.records.size() == 1);
  CHECK(zstd.records[0].length == zstd_frame(texts[2]).size());
  // one member for all records: each lies in the bytes that are told
  const Read one = read_bytes("a.warc.gz", packed(texts[0] + texts[1] + texts[2]));
  REQUIRE(one.records.size() == 1);
  CHECK(one.records[0].offset == 0);
}

TEST_CASE("what a WARC record may hold", "[web]") {  // trap 21
  struct Case {
    const char* what;
    WarcRecord record;
    const char* text;  // nullptr: skipped
    const char* name;  // skipped or repaired as
  };
  WarcRecord resource = page("");
  resource.type = "resource";
  resource.content_type = "text/plain";
  resource.block = "plain words";
  WarcRecord wet = resource;
  wet.type = "conversion";
  wet.version = "1.1";
  WarcRecord bare = page("");
  bare.block = kPage;
  WarcRecord untyped = bare;
  untyped.content_type = "";
  WarcRecord folded = page(kPage, "X-Long: a\r\n b\r\nCONTENT-TYPE:text/html\r\n");
  WarcRecord missing = page(kPage, "");
  WarcRecord picture = page("\x89PNG", "Content-Type: image/png\r\n");
  WarcRecord moved = page("");
  moved.block = http(kPage, "Content-Type: text/html\r\n", "404 Not Found");
  WarcRecord revisit = page(kPage);
  revisit.type = "revisit";
  const std::string chunked = "Transfer-Encoding: chunked\r\nContent-Type: text/html\r\n";
  const std::string gz = "Content-Encoding: gzip\r\nContent-Type: text/html\r\n";
  const std::string twice =
      "5;ext=1\r\n" + kPage.substr(0, 5) + "\r\n" + "25\r\n" + kPage.substr(5) + "\r\n0\r\n\r\n";
  REQUIRE(kPage.size() - 5 == 0x25);
  const Case cases[] = {
      {"resource", resource, "plain words", nullptr},
      {"conversion of WARC/1.1", wet, "plain words", nullptr},
      {"bare HTML in a response", bare, kPage.c_str(), nullptr},
      {"no type at all", untyped, kPage.c_str(), nullptr},
      {"folded and capital fields", folded, kPage.c_str(), nullptr},
      {"missing payload type", missing, kPage.c_str(), nullptr},
      {"picture", picture, nullptr, "payload_type"},
      {"not found", moved, nullptr, "http_status"},
      {"revisit", revisit, nullptr, "revisit"},
      {"binary", page(std::string("\0\0abc", 5)), nullptr, "binary"},
      {"empty", page(" \n"), nullptr, "empty"},
      {"chunked", page(twice, chunked), kPage.c_str(), nullptr},
      {"not chunked", page(kPage, chunked), kPage.c_str(), "not_chunked"},
      {"bad chunk size", page("5\r\n<p>Hi\r\nzz\r\nlost", chunked), "<p>Hi", "chunk_size"},
      {"chunk larger than the body", page("fff\r\n<p>Hi", chunked), "<p>Hi", "chunk_size"},
      {"huge chunk size", page("fffffffffffffffffff\r\n<p>Hi", chunked), "fffffffffffffffffff\r\n<p>Hi",
       "not_chunked"},
      {"gzip body", page(packed(kPage), gz), kPage.c_str(), nullptr},
      {"zlib body", page(packed(kPage, 15), "Content-Encoding: deflate\r\nContent-Type: text/html\r\n"),
       kPage.c_str(), nullptr},
      {"raw deflate body",
       page(packed(kPage, -15), "Content-Encoding: deflate\r\nContent-Type: text/html\r\n"), kPage.c_str(),
       nullptr},
      {"not packed", page(kPage, gz), kPage.c_str(), "not_packed"},
      {"brotli", page("\x0b\x02\x80xyz", "Content-Encoding: br\r\nContent-Type: text/html\r\n"), nullptr,
       "content_encoding"},
      {"gzip body cut", page(packed(kPage).substr(0, packed(kPage).size() - 6), gz), kPage.c_str(),
       "packed_body"},
  };
  for (const Case& c : cases) {
    INFO(c.what);
    const Read read = read_bytes("a.warc.gz", packed(c.record.text()) + packed(page("<p>next").text()));
    REQUIRE(read.records.size() >= 1);
    CHECK(read.records.back().text == "<p>next");
    if (c.text) {
      REQUIRE(read.records.size() == 2);
      CHECK(read.records[0].text == c.text);
      CHECK(read.counts.repaired.size() == (c.name ? 1 : 0));
    }
    if (c.name) CHECK(read.counts.skipped.count(c.name) + read.counts.repaired.count(c.name) == 1);
  }
}

TEST_CASE("lying content lengths are mended from what follows", "[web]") {
  for (const char* length : {"10", "200", "99999999", "-5", "no", "18446744073709551615"}) {
    INFO(length);
    WarcRecord liar = page(kPage);
    liar.length = length;
    const bool huge = std::string(length).size() > 10;
    for (const char* name : {"a.warc", "a.warc.gz"}) {
      const std::string texts[] = {page("<p>before").text(), liar.text(), page("<p>after").text()};
      std::string file;
      for (const std::string& t : texts) file += std::string(name) == "a.warc" ? t : packed(t);
      const Read read = read_bytes(name, file);
      REQUIRE(read.records.size() == (huge || std::string(length) == "99999999" ? 2 : 3));
      CHECK(read.records[0].text == "<p>before");
      CHECK(read.records.back().text == "<p>after");
      CHECK(read.records.back().number == 2);
      if (read.records.size() == 3) {
        CHECK(read.records[1].text == kPage);
        CHECK(read.counts.repaired.at("content_length") == 1);
      } else {
        CHECK(read.counts.skipped.at("too_large") == 1);
      }
    }
  }
}

TEST_CASE("a broken member costs its record and no other", "[web]") {
  const std::vector<std::string> m = three_members();
  const auto check_middle_lost = [](const Read& read, const char* what) {
    INFO(what);
    REQUIRE(read.records.size() == 2);
    CHECK(read.records[0].text.substr(0, 8) == "<p>first");
    CHECK(read.records[1].text.substr(0, 8) == "<p>third");
    CHECK(read.records[1].number == 2);
    CHECK(read.counts.skipped.at("damaged_member") == 1);
  };
  std::string flipped = m[1];
  flipped[flipped.size() / 2] = static_cast<char>(flipped[flipped.size() / 2] ^ 0x55);
  flipped[flipped.size() / 2 + 1] = static_cast<char>(flipped[flipped.size() / 2 + 1] ^ 0xff);
  check_middle_lost(read_bytes("a.warc.gz", m[0] + flipped + m[2]), "flipped bits");
  check_middle_lost(read_bytes("a.warc.gz", m[0] + m[1].substr(0, m[1].size() / 2) + m[2]), "cut member");
  const Read tail = read_bytes("a.warc.gz", m[0] + m[1] + m[2].substr(0, 40));
  CHECK(tail.records.size() == 2);
  CHECK(tail.counts.skipped.at("damaged_member") == 1);
  const Read rubbish = read_bytes("a.warc.gz", m[0] + "some rubbish here" + m[1] + m[2]);
  CHECK(rubbish.records.size() == 3);
  CHECK(rubbish.counts.lost_bytes == 17);
  const Read nothing = read_bytes("a.warc.gz", "this is no gzip");
  CHECK(nothing.records.empty());
  CHECK(nothing.counts.lost_bytes == 15);
  CHECK(read_bytes("a.warc.gz", "").records.empty());
  const Read between = read_bytes("a.warc", "rubbish\r\n\r\n" + page("<p>a").text() + page("<p>b").text());
  CHECK(between.records.size() == 2);
  CHECK(between.counts.skipped.at("bad_header") == 1);
}

TEST_CASE("JSON lines: fields, numbers, bad lines by name", "[web]") {
  const std::string lines =
      "{\"text\": \"one\", \"url\": \"u\", \"license\": \"CC0\", \"source\": \"s\", \"date\": \"2020\"}\n"
      "\n"
      "not json\n"
      "{\"body\": \"no text\"}\n"
      "[1]\n"
      "{\"text\": \"two \xFF\", \"id\": \"http://x/\", \"metadata\": {\"language\": \"en\"}}\n"
      "{\"text\": \"last\"}";
  for (const bool zipped : {false, true}) {
    const Read read = read_bytes(zipped ? "a.jsonl.gz" : "a.jsonl", zipped ? packed(lines) : lines);
    REQUIRE(read.records.size() == 3);
    CHECK(read.records[0].licence == "CC0");
    CHECK(read.records[0].source == "s");
    CHECK(read.records[1].number == 5);
    CHECK(read.records[1].text == "two \xEF\xBF\xBD");
    CHECK(read.records[1].url == "http://x/");
    CHECK(read.records[1].language == "en");
    CHECK(lines.substr(read.records[2].offset, read.records[2].length) == "{\"text\": \"last\"}");
    CHECK(read.counts.skipped ==
          std::map<std::string, uint64_t>{{"bad_json", 2}, {"empty", 1}, {"no_text", 1}});
    CHECK(read.counts.repaired.at("invalid_text") == 1);
  }
}

TEST_CASE("a line beyond the limit is passed over, and the next one read", "[web]") {
  const std::string lines = "{\"text\": \"" + std::string(5000000, 'x') + "\"}\n{\"text\": \"next\"}\n";
  IngestOptions options;
  options.max_record_bytes = 100000;
  for (const char* name : {"a.jsonl", "a.jsonl.gz"}) {
    const Read read = read_bytes(name, std::string(name) == "a.jsonl" ? lines : packed(lines), options);
    REQUIRE(read.records.size() == 1);
    CHECK(read.records[0].text == "next");
    CHECK(read.records[0].number == 1);
    CHECK(read.counts.skipped.at("too_large") == 1);
  }
  const Read whole = read_bytes("a.txt", lines, options);
  CHECK(whole.counts.skipped.at("too_large") == 1);
  const Read warc = read_bytes("a.warc", page(lines).text() + page("<p>next").text(), options);
  REQUIRE(warc.records.size() == 1);
  CHECK(warc.counts.skipped.at("too_large") == 1);
}

TEST_CASE("formats by name and by first bytes", "[web]") {
  CHECK(read_bytes("a.md", "# x").records.at(0).kind == RecordKind::markdown);
  CHECK(read_bytes("a.htm.gz", packed(kPage)).records.at(0).kind == RecordKind::html);
  CHECK(read_bytes("a.rst", "words").records.at(0).kind == RecordKind::text);
  CHECK(read_bytes("page", kPage).records.at(0).kind == RecordKind::html);
  CHECK(read_bytes("lines", "{\"text\": \"x\"}").records.at(0).text == "x");
  CHECK(read_bytes("crawl", page("<p>x").text()).records.at(0).text == "<p>x");
  CHECK(read_bytes("two.txt.gz", packed("one ") + packed("two")).records.at(0).text == "one two");
  CHECK(read_bytes("a.txt", std::string("a\0b", 3)).counts.skipped.at("binary") == 1);
  CHECK(code_of([] { read_bytes("a.txt", "x", {.format = "pdf"}); }) == Code::usage);
  CHECK(code_of([] { read_records("no/such/file.txt", 0, {}, [](Record&&) {}); }) == Code::input);
}

TEST_CASE("charsets: mark, header, meta, then UTF-8 or windows-1252", "[web]") {
  CHECK(decode_text("caf\xE9 \x93x\x94", "", true).text == "caf\xC3\xA9 \xE2\x80\x9Cx\xE2\x80\x9D");
  CHECK(decode_text("caf\xC3\xA9", "", false).text == "caf\xC3\xA9");
  CHECK(decode_text("caf\xC3\xA9", "ISO-8859-1", false).text == "caf\xC3\x83\xC2\xA9");
  CHECK(decode_text("\xEF\xBB\xBF"
                    "caf\xC3\xA9",
                    "latin1", false)
            .text == "caf\xC3\xA9");
  CHECK(decode_text("<meta charset='koi8-r'>\xD0\xD2", "", true).text ==
        "<meta charset='koi8-r'>\xD0\xBF\xD1\x80");
  CHECK(decode_text("\x82\xA0", "Shift_JIS", false).text == "\xE3\x81\x82");
  CHECK(decode_text(std::string_view("\xFF\xFE"
                                     "a\0b\0",
                                     6),
                    "", false)
            .text == "ab");
  const Decoded odd = decode_text("caf\xC3\xA9", "klingon-8", false);
  CHECK(odd.unknown_charset);
  CHECK(odd.text == "caf\xC3\xA9");
  const Decoded bad = decode_text(
      "a\xE2\x82"
      "b\xFF",
      "utf-8", false);
  CHECK(bad.invalid);
  CHECK(bad.text ==
        "a\xEF\xBF\xBD"
        "b\xEF\xBF\xBD");
  CHECK(charset_parameter("text/html; Charset=\"UTF-8\"") == "utf-8");
}

TEST_CASE("real crawls: as many records as warcio reads", "[web]") {
  struct Expected {
    const char* name;
    uint64_t records, seen;
  };
  for (const Expected e : {Expected{"sample-0000.warc.gz", 22, 48},
                           {"whirlwind.warc.gz", 1, 4},
                           {"whirlwind.warc.wet.gz", 1, 2},
                           {"whirlwind.warc.wat.gz", 0, 2},
                           {"cc_en_head-0091.jsonl.gz", 10, 10}}) {
    const fs::path file = shared_file(std::string("data/web/") + e.name);
    if (file.empty()) return;
    const IngestCounts counts = read_records(file, 0, {}, [](Record&& r) { CHECK(!r.url.empty()); });
    INFO(e.name);
    CHECK(counts.records == e.records);
    CHECK(counts.seen == e.seen);
    CHECK(counts.repaired.empty());
    CHECK(counts.lost_bytes == 0);
  }
}

TEST_CASE("mutated crawls never crash and lose nothing silently", "[.fuzz]") {
  const char* wanted = std::getenv("LLMCTL_FUZZ_SECONDS");
  const auto seconds = std::chrono::duration<double>(wanted ? std::atof(wanted) : 20.0);
  const auto start = std::chrono::steady_clock::now();
  const std::vector<std::string> m = three_members();
  const std::string plain = page(kPage).text() +
                            page("5\r\n<p>Hi\r\n0\r\n\r\n", "Transfer-Encoding: chunked\r\n").text() +
                            page(packed(kPage), "Content-Encoding: gzip\r\n").text();
  const std::string jsonl = "{\"text\": \"one\", \"url\": \"u\"}\n{\"text\": \"two\"}\n";
  const std::pair<const char*, std::string> seeds[] = {{"a.warc.gz", m[0] + m[1] + m[2]},
                                                       {"a.warc", plain},
                                                       {"a.warc.zst", zstd_frame(plain) + zstd_frame(plain)},
                                                       {"a.jsonl", jsonl},
                                                       {"a.jsonl.gz", packed(jsonl)}};
  uint64_t rounds = 0;
  for (; std::chrono::steady_clock::now() - start < seconds; ++rounds) {
    CounterRandom random(11, rounds);
    auto [name, bytes] = seeds[random.below(std::size(seeds))];
    for (uint64_t n = 1 + random.below(6); n > 0 && !bytes.empty(); --n) {
      const size_t at = random.below(bytes.size());
      switch (random.below(4)) {
        case 0:
          bytes[at] = static_cast<char>(random.bits());
          break;
        case 1:
          bytes.erase(at, random.below(40));
          break;
        case 2:
          bytes.insert(at, bytes.substr(random.below(bytes.size()), random.below(200)));
          break;
        default:
          bytes[at] = "0123456789\r\n"[random.below(12)];
          break;
      }
    }
    if (random.below(4) == 0) bytes.resize(random.below(bytes.size() + 1));
    read_bytes(name, bytes, {.max_record_bytes = 1 + random.below(1 << 14)});
  }
  WARN(rounds << " mutated files");
  CHECK(rounds > 10);
}
