// SPDX-License-Identifier: Apache-2.0
// Header fields (RFC 9110, RFC 9112) and the body behind them, as crawlers stored them: often not as the
// fields say.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace llmctl {

class HeaderFields {
 public:
  // Lines "Name: value"; a line that begins with a blank goes on with the one before. Others are passed over.
  explicit HeaderFields(std::string_view lines = {});
  std::string_view get(std::string_view name) const;  // the first of the name, in any case; "" for none

 private:
  std::vector<std::pair<std::string, std::string>> fields_;  // names in small letters
};

// The place behind the empty line that ends the header block beginning at 0; npos when there is none.
size_t end_of_header(std::string_view block);

std::string lower_case(std::string_view text);

struct HttpBody {
  int status = 200;
  HeaderFields fields;
  std::string bytes;                  // chunks joined, packing undone
  const char* skip = nullptr;         // why it cannot be used, by ingest.h's names
  std::vector<const char*> repaired;  // by ingest.h's names
};

// Of a WARC block that begins "HTTP/"; at most max_bytes of body.
HttpBody read_http(std::string_view block, uint64_t max_bytes);

}  // namespace llmctl
