// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/base/file.h"

namespace llmctl {
namespace {

constexpr size_t kRaw = size_t{1} << 18, kText = size_t{1} << 18;

// Raw bytes with a window that the decoders eat from.
struct Raw {
  std::string name;
  int fd = -1;
  bool owned = false, ended = false;
  std::vector<char> data = std::vector<char>(kRaw);
  size_t begin = 0, end = 0;

  explicit Raw(const fs::path& path) : name(path == "-" ? "standard input" : path.string()) {
    owned = path != "-";
    fd = owned ? ::open(path.c_str(), O_RDONLY | O_CLOEXEC) : 0;
    if (fd < 0) {
      bool missing = errno == ENOENT || errno == ENOTDIR;
      throw Error(missing ? Code::input : Code::io,
                  "[file] " + name + ": " + (missing ? "no such file" : std::strerror(errno)));
    }
  }
  Raw(const Raw&) = delete;
  Raw& operator=(const Raw&) = delete;
  ~Raw() {
    if (owned && fd >= 0) ::close(fd);
  }
  // Makes sure that at least `want` bytes are in the window, or that the input has ended.
  void fill(size_t want) {
    if (end - begin >= want || ended) return;
    std::memmove(data.data(), data.data() + begin, end - begin);
    end -= begin;
    begin = 0;
    while (end < want && !ended) {
      ssize_t n = ::read(fd, data.data() + end, data.size() - end);
      if (n < 0 && errno == EINTR) continue;
      check(n >= 0, errno == EISDIR ? Code::input : Code::io, "[file] ", name, ": ", std::strerror(errno));
      if (n == 0) ended = true;
      end += static_cast<size_t>(n);
    }
  }
};

struct Decoder {
  virtual ~Decoder() = default;
  virtual size_t read(Raw& raw, char* out, size_t n) = 0;  // 0 at the end
};

struct Plain : Decoder {
  size_t read(Raw& raw, char* out, size_t n) override {
    raw.fill(1);
    n = std::min(n, raw.end - raw.begin);
    std::memcpy(out, raw.data.data() + raw.begin, n);
    raw.begin += n;
    return n;
  }
};

struct Gzip : Decoder {
  z_stream z{};
  bool member_open = false;

  Gzip() { check(inflateInit2(&z, 15 + 16) == Z_OK, Code::memory, "[file] gzip: cannot start"); }
  ~Gzip() override { inflateEnd(&z); }
  size_t read(Raw& raw, char* out, size_t n) override {
    for (;;) {
      raw.fill(1);
      size_t have = raw.end - raw.begin;
      if (have == 0) {
        check(!member_open, Code::input, "[file] ", raw.name, ": gzip data ends too early");
        return 0;
      }
      member_open = true;
      z.next_in = reinterpret_cast<Bytef*>(raw.data.data() + raw.begin);
      z.avail_in = static_cast<uInt>(have);
      z.next_out = reinterpret_cast<Bytef*>(out);
      z.avail_out = static_cast<uInt>(std::min<size_t>(n, kText));
      uInt room = z.avail_out;
      int rc = inflate(&z, Z_NO_FLUSH);
      raw.begin = raw.end - z.avail_in;
      check(rc == Z_OK || rc == Z_STREAM_END || rc == Z_BUF_ERROR, Code::input, "[file] ", raw.name,
            ": damaged gzip data: ", z.msg ? z.msg : "no reason given");
      if (rc == Z_STREAM_END) {  // members may follow one another
        member_open = false;
        inflateReset(&z);
      }
      if (z.avail_out != room) return room - z.avail_out;
    }
  }
};

struct Zstd : Decoder {
  ZSTD_DStream* z = ZSTD_createDStream();
  bool frame_open = false;

  Zstd() { check(z != nullptr, Code::memory, "[file] zstd: cannot start"); }
  ~Zstd() override { ZSTD_freeDStream(z); }
  size_t read(Raw& raw, char* out, size_t n) override {
    for (;;) {
      raw.fill(1);
      ZSTD_inBuffer in{raw.data.data() + raw.begin, raw.end - raw.begin, 0};
      ZSTD_outBuffer to{out, n, 0};
      if (in.size == 0 && !frame_open) return 0;
      size_t rc = ZSTD_decompressStream(z, &to, &in);
      raw.begin += in.pos;
      check(!ZSTD_isError(rc), Code::input, "[file] ", raw.name,
            ": damaged zstd data: ", ZSTD_getErrorName(rc));
      frame_open = rc != 0;
      if (to.pos > 0) return to.pos;
      check(in.size > 0 || !frame_open, Code::input, "[file] ", raw.name, ": zstd data ends too early");
    }
  }
};

// By name; standard input has none, so there the first bytes decide (neither is valid UTF-8).
std::unique_ptr<Decoder> decoder_for(const fs::path& path, Raw& raw) {
  std::string ending = path.extension().string();
  if (path == "-") {
    raw.fill(4);
    std::string_view head(raw.data.data(), raw.end);
    if (head.substr(0, 2) == "\x1f\x8b") ending = ".gz";
    if (head.substr(0, 4) == "\x28\xb5\x2f\xfd") ending = ".zst";
  }
  if (ending == ".gz") return std::make_unique<Gzip>();
  if (ending == ".zst") return std::make_unique<Zstd>();
  return std::make_unique<Plain>();
}

}  // namespace

struct ByteReader::State {
  Raw raw;
  std::unique_ptr<Decoder> decoder;
  std::vector<char> text = std::vector<char>(kText);
  size_t begin = 0, end = 0;

  explicit State(const fs::path& path) : raw(path), decoder(decoder_for(path, raw)) {}
  bool more() {
    if (begin < end) return true;
    begin = 0;
    end = decoder->read(raw, text.data(), text.size());
    return end > 0;
  }
};

ByteReader::ByteReader(const fs::path& path) : state_(std::make_unique<State>(path)) {}
ByteReader::~ByteReader() = default;

size_t ByteReader::read(char* out, size_t n) {
  State& s = *state_;
  size_t done = 0;
  while (done < n && s.more()) {
    size_t take = std::min(n - done, s.end - s.begin);
    std::memcpy(out + done, s.text.data() + s.begin, take);
    s.begin += take;
    done += take;
  }
  return done;
}

bool ByteReader::line(std::string& out, size_t max_line) {
  State& s = *state_;
  out.clear();
  bool any = false;
  while (s.more()) {
    any = true;
    const char* from = s.text.data() + s.begin;
    const void* newline = std::memchr(from, '\n', s.end - s.begin);
    size_t take = newline ? static_cast<size_t>(static_cast<const char*>(newline) - from) : s.end - s.begin;
    check(out.size() + take <= max_line, Code::input, "[file] ", s.raw.name, ": a line is longer than ",
          max_line, " bytes");
    out.append(from, take);
    s.begin += take + (newline ? 1 : 0);
    if (newline) return true;
  }
  return any;
}

std::string ByteReader::rest(uint64_t max_bytes) {
  State& s = *state_;
  std::string out;
  while (s.more()) {
    check(out.size() + (s.end - s.begin) <= max_bytes, Code::input, "[file] ", s.raw.name,
          ": holds more than ", max_bytes, " bytes");
    out.append(s.text.data() + s.begin, s.end - s.begin);
    s.begin = s.end;
  }
  return out;
}

}  // namespace llmctl
