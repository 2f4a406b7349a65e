// SPDX-License-Identifier: Apache-2.0
// WARC files made by hand, and packed bytes, for the tests of data/web.
#pragma once

#include <zlib.h>

#include <catch2/catch.hpp>
#include <string>

#include "data/text/utf8.h"
#include "data/web/ingest.h"
#include "samples.h"

namespace llmctl {

// window_bits: 31 gzip, 15 zlib, -15 raw deflate.
inline std::string packed(const std::string& plain, int window_bits = 31) {
  z_stream z{};
  REQUIRE(deflateInit2(&z, 6, Z_DEFLATED, window_bits, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string out(deflateBound(&z, plain.size()) + 64, '\0');
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(plain.data()));
  z.avail_in = static_cast<uInt>(plain.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  REQUIRE(deflate(&z, Z_FINISH) == Z_STREAM_END);
  out.resize(z.total_out);
  deflateEnd(&z);
  return out;
}

struct WarcRecord {
  std::string type = "response", block, uri = "<http://a.example/>", content_type = "application/http",
              version = "1.0", extra;
  std::string length = "";  // said; "" the true one
  std::string text() const {
    return "WARC/" + version + "\r\nWARC-Type: " + type + "\r\nWARC-Target-URI: " + uri +
           "\r\nWARC-Date: 2024-05-18T01:58:10Z\r\n" + extra +
           (content_type.empty() ? "" : "Content-Type: " + content_type + "\r\n") +
           "Content-Length: " + (length.empty() ? std::to_string(block.size()) : length) + "\r\n\r\n" +
           block + "\r\n\r\n";
  }
};

inline std::string http(const std::string& body, const std::string& fields = "Content-Type: text/html\r\n",
                        const std::string& status = "200 OK") {
  return "HTTP/1.1 " + status + "\r\n" + fields + "\r\n" + body;
}

inline WarcRecord page(const std::string& body, const std::string& fields = "Content-Type: text/html\r\n") {
  WarcRecord r;
  r.block = http(body, fields);
  return r;
}

struct Read {
  std::vector<Record> records;
  IngestCounts counts;
};

inline Read read_bytes(const std::string& name, const std::string& bytes, const IngestOptions& options = {}) {
  ScratchFolder folder;
  write_file(folder.path / name, bytes, false);
  Read read;
  read.counts =
      read_records(folder.path / name, 7, options, [&](Record&& r) { read.records.push_back(std::move(r)); });
  uint64_t skipped = 0;
  for (const auto& [why, n] : read.counts.skipped) skipped += n;
  CHECK(read.counts.records == read.records.size());
  CHECK(read.counts.seen == read.records.size() + skipped);
  for (const Record& r : read.records) CHECK(is_utf8(r.text));
  return read;
}

}  // namespace llmctl
