// SPDX-License-Identifier: Apache-2.0
#include "data/web/source_bytes.h"

#include <algorithm>

#include "data/web/http.h"

namespace llmctl {

bool SourceBytes::next_member() {
  position_ += buffer_.size() - at_;
  buffer_.clear();
  at_ = 0;
  ended_ = !members_.next();
  return !ended_;
}

std::string_view SourceBytes::peek(size_t want) {
  constexpr size_t kPiece = size_t{1} << 16;
  while (buffer_.size() - at_ < want && !ended_) {
    // Moving the rest to the front only when that is the smaller part keeps the copying linear.
    if (at_ >= buffer_.size() - at_) {
      buffer_.erase(0, at_);
      at_ = 0;
    }
    const size_t have = buffer_.size(), missing = want - (have - at_);
    const size_t step = std::max(kPiece, std::min(missing, have));
    buffer_.resize(have + step);
    size_t got = 0;
    while (got < step) {
      const size_t n = members_.read(buffer_.data() + have + got, step - got);
      if (n == 0) break;
      got += n;
    }
    buffer_.resize(have + got);
    ended_ = got < step;
  }
  return std::string_view(buffer_).substr(at_);
}

void SourceBytes::drop(size_t n) {
  at_ += n;
  position_ += n;
  if (at_ == buffer_.size()) {
    buffer_.clear();
    at_ = 0;
  }
}

Record IngestSink::record() const {
  Record r;
  r.file = file;
  r.number = number;
  r.source = options.source;
  r.licence = options.licence;
  return r;
}

void IngestSink::skip(const std::string& why) {
  ++counts.skipped[why];
  ++counts.seen;
  ++number;
}

void IngestSink::put(Record&& record) {
  ++counts.records;
  ++counts.seen;
  ++number;
  give(std::move(record));
}

bool is_binary(std::string_view text) {
  return text.substr(0, 1024).find('\0') != std::string_view::npos;
}

bool looks_like_html(std::string_view text) {
  const std::string head = lower_case(text.substr(0, 1024));
  const size_t first = head.find_first_not_of(" \t\r\n\xEF\xBB\xBF");
  if (first == std::string::npos || head[first] != '<') return false;
  for (const char* mark : {"<!doctype html", "<html", "<head", "<body", "<title", "<meta", "<div", "<p>",
                           "<h1", "<table", "<script", "<!--"})
    if (head.find(mark) != std::string::npos) return true;
  return false;
}

}  // namespace llmctl
