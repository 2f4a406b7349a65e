// SPDX-License-Identifier: Apache-2.0
#include "data/packed/shard.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "data/text/json_fields.h"

namespace llmctl {

static_assert(std::endian::native == std::endian::little, "shards are written as they lie in memory");

namespace {

constexpr char kMagic[] = "MMIDIDX\0";  // nine bytes with the closing zero
constexpr uint64_t kHeader = 9 + 8 + 1 + 8 + 8;
constexpr uint8_t kI32 = 4, kU16 = 8;

fs::path with_suffix(const fs::path& base, const char* suffix) {
  return fs::path(base.string() + suffix);
}

template <class T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

}  // namespace

// ---------------------------------------------------------------- writer

struct ShardWriter::State {
  OutputFile bin, idx;
  int64_t vocab_size;
  bool wide;  // i32
  std::vector<int32_t> lengths;
  int64_t tokens = 0, open = 0;  // open: of the document under way
  DigestStream digest;           // of its bytes
  Digest sum;
  std::vector<uint16_t> narrow;  // ids being written

  State(const fs::path& path, int64_t vocab, bool overwrite)
      : bin(with_suffix(path, ".bin"), overwrite),
        idx(with_suffix(path, ".idx"), overwrite),
        vocab_size(vocab),
        wide(vocab > 65536) {}
  std::string index() const {
    std::string out(kMagic, 9);
    put<uint64_t>(out, 1);
    put<uint8_t>(out, wide ? kI32 : kU16);
    put<uint64_t>(out, lengths.size());
    put<uint64_t>(out, lengths.size() + 1);
    for (const int32_t n : lengths) put(out, n);
    int64_t at = 0;
    for (const int32_t n : lengths) {
      put(out, at);
      at += int64_t{n} * (wide ? 4 : 2);
    }
    for (size_t d = 0; d <= lengths.size(); ++d) put(out, static_cast<int64_t>(d));
    return out;
  }
};

ShardWriter::ShardWriter(const fs::path& path, int64_t vocab_size, bool overwrite)
    : state_(std::make_unique<State>(path, vocab_size, overwrite)) {}
ShardWriter::~ShardWriter() = default;
ShardWriter::ShardWriter(ShardWriter&&) noexcept = default;

void ShardWriter::add(std::span<const int32_t> ids) {
  check(!ids.empty(), Code::input, "[shard] a document without tokens");
  append(ids);
  end_document();
}

void ShardWriter::append(std::span<const int32_t> ids) {
  State& s = *state_;
  const int64_t open = s.open + static_cast<int64_t>(ids.size());
  check(open <= INT32_MAX, Code::input, "[shard] a document of ", open, " tokens is too long");
  uint32_t bad = 0;  // looked for without a branch per id
  for (const int32_t id : ids)
    bad |= static_cast<uint32_t>(static_cast<uint32_t>(id) >= static_cast<uint64_t>(s.vocab_size));
  for (size_t i = 0; bad && i < ids.size(); ++i)
    check(ids[i] >= 0 && ids[i] < s.vocab_size, Code::input, "[shard] id ", ids[i],
          " outside the vocabulary of ", s.vocab_size);
  std::string_view bytes(reinterpret_cast<const char*>(ids.data()), ids.size_bytes());
  if (!s.wide) {
    s.narrow.assign(ids.begin(), ids.end());
    bytes = {reinterpret_cast<const char*>(s.narrow.data()), s.narrow.size() * 2};
  }
  s.open = open;
  s.digest.update(bytes.data(), bytes.size());
  s.bin.write(bytes);
}

void ShardWriter::end_document() {
  State& s = *state_;
  check(s.open > 0, Code::input, "[shard] a document without tokens");
  // Order matters to the sum: the offset stands in each term.
  Digest term = s.digest.take();
  term.low ^= static_cast<uint64_t>(s.tokens);
  s.sum += digest_of(term.hex());
  s.lengths.push_back(static_cast<int32_t>(s.open));
  s.tokens += s.open;
  s.open = 0;
}

int64_t ShardWriter::documents() const {
  return static_cast<int64_t>(state_->lengths.size());
}
int64_t ShardWriter::tokens() const {
  return state_->tokens;
}

Digest ShardWriter::commit() {
  const std::string index = state_->index();
  state_->idx.write(index);
  state_->bin.commit();
  state_->idx.commit();  // last: a .bin without its .idx is no shard
  Digest digest = digest_of(index);
  digest += state_->sum;
  return digest;
}

// ---------------------------------------------------------------- reader

struct Shard::State {
  FileMap idx, bin;
  bool wide = false;
  uint64_t sequences = 0;
  std::vector<int64_t> offsets;  // in tokens; one more than there are documents

  explicit State(const fs::path& base) : idx(with_suffix(base, ".idx")), bin(with_suffix(base, ".bin")) {
    read_index(base.string());
  }
  template <class T>
  T number(uint64_t at) const {
    T value;
    std::memcpy(&value, idx.data() + at, sizeof value);
    return value;
  }
  void read_index(const std::string& who);
};

void Shard::State::read_index(const std::string& who) {
  check(idx.size() >= kHeader && std::memcmp(idx.data(), kMagic, 9) == 0, Code::input, "[shard] ", who,
        ".idx is not a Megatron index");
  check(number<uint64_t>(9) == 1, Code::input, "[shard] ", who, ".idx has version ", number<uint64_t>(9),
        ", not 1");
  const auto dtype = number<uint8_t>(17);
  check(dtype == kI32 || dtype == kU16, Code::unsupported, "[shard] ", who,
        ".idx holds tokens of dtype code ", static_cast<int>(dtype), ", only 4 (i32) and 8 (u16) are read");
  wide = dtype == kI32;
  sequences = number<uint64_t>(18);
  const auto entries = number<uint64_t>(26);
  check(sequences > 0 && sequences < (uint64_t{1} << 40) && entries < (uint64_t{1} << 40), Code::input,
        "[shard] ", who, ".idx claims ", sequences, " sequences");
  check(idx.size() == kHeader + sequences * 12 + entries * 8, Code::input, "[shard] ", who, ".idx has ",
        idx.size(), " bytes, its header says ", kHeader + sequences * 12 + entries * 8);
  check(entries == sequences + 1, Code::unsupported, "[shard] ", who,
        ".idx has documents of several sequences, only one each is read");
  const uint64_t lengths = kHeader, pointers = kHeader + sequences * 4, documents = kHeader + sequences * 12;
  const int64_t width = wide ? 4 : 2;
  offsets.reserve(sequences + 1);
  offsets.push_back(0);
  for (uint64_t d = 0; d < sequences; ++d) {
    const auto length = number<int32_t>(lengths + d * 4);
    check(length > 0, Code::input, "[shard] ", who, ".idx: document ", d, " has length ", length);
    check(number<int64_t>(pointers + d * 8) == offsets.back() * width, Code::input, "[shard] ", who,
          ".idx: document ", d, " starts at byte ", number<int64_t>(pointers + d * 8), ", expected ",
          offsets.back() * width);
    check(number<int64_t>(documents + d * 8) == static_cast<int64_t>(d), Code::unsupported, "[shard] ", who,
          ".idx has documents of several sequences, only one each is read");
    offsets.push_back(offsets.back() + length);
  }
  check(number<int64_t>(documents + sequences * 8) == static_cast<int64_t>(sequences), Code::input,
        "[shard] ", who, ".idx: the document index does not end at ", sequences);
  check(bin.size() == static_cast<uint64_t>(offsets.back() * width), Code::input, "[shard] ", who,
        ".bin has ", bin.size(), " bytes, its index says ", offsets.back() * width);
}

namespace {

fs::path base_of(fs::path path) {
  if (path.extension() == ".bin" || path.extension() == ".idx") path.replace_extension();
  return path;
}

}  // namespace

Shard::Shard(const fs::path& path) : state_(std::make_shared<State>(base_of(path))) {}
int64_t Shard::documents() const {
  return static_cast<int64_t>(state_->sequences);
}
int64_t Shard::tokens() const {
  return state_->offsets.back();
}
int64_t Shard::length(int64_t document) const {
  return offset(document + 1) - offset(document);
}

int64_t Shard::offset(int64_t document) const {
  check(document >= 0 && document <= documents(), Code::bug, "[shard] document ", document, " of ",
        documents());
  return state_->offsets[static_cast<size_t>(document)];
}

void Shard::read(int64_t document, int64_t from, std::span<int32_t> out) const {
  const auto n = static_cast<int64_t>(out.size());
  check(from >= 0 && from + n <= length(document), Code::bug, "[shard] tokens ", from, "..", from + n,
        " of document ", document);
  const auto at = static_cast<uint64_t>(offset(document) + from);
  if (state_->wide) {
    if (n > 0) std::memcpy(out.data(), state_->bin.data() + at * 4, static_cast<size_t>(n) * 4);
    return;
  }
  const std::byte* bytes = state_->bin.data() + at * 2;
  for (size_t i = 0; i < out.size(); ++i) {
    uint16_t id;
    std::memcpy(&id, bytes + i * 2, 2);
    out[i] = id;
  }
}

// ---------------------------------------------------------------- folders

namespace {

void read_provenance(const fs::path& folder, PackedCorpus& corpus) {
  const Json json = read_json(folder / "provenance.json", uint64_t{1} << 28);
  corpus.tokenizer_digest = string_field(json, "tokenizer");
  corpus.vocab_size = int_field(json, "vocab_size", 1, int64_t{1} << 31);
  corpus.digest = string_field(json, "digest");
  if (json.contains("eos") && !json["eos"].is_null())
    corpus.eos = static_cast<int32_t>(int_field(json, "eos", 0, corpus.vocab_size - 1));
  const Json& shards = field(json, "shards");
  check(shards.is_array() && !shards.empty(), Code::input, "[shard] provenance.json lists no shards");
  for (const Json& shard : shards) {
    const std::string name = string_field(shard, "name");
    check(fs::path(name).filename() == name, Code::input,
          "[shard] provenance.json names a shard elsewhere: ", name);
    corpus.shards.emplace_back(folder / name);
    const int64_t tokens = int_field(shard, "tokens", 0, INT64_MAX);
    check(tokens == corpus.shards.back().tokens(), Code::input, "[shard] ", name, " holds ",
          corpus.shards.back().tokens(), " tokens, provenance.json says ", tokens);
  }
}

}  // namespace

PackedCorpus open_packed(const fs::path& path) {
  PackedCorpus corpus;
  check(!fs::exists(path / "unfinished"), Code::input, "[shard] ", path.string(),
        ": `data run` began to make it again and did not finish; run it once more");
  if (!fs::is_directory(path)) {
    corpus.shards.emplace_back(path);
    corpus.digest = digest_of_file(with_suffix(base_of(path), ".bin")).hex();
  } else if (fs::exists(path / "provenance.json")) {
    read_provenance(path, corpus);
  } else {
    std::vector<fs::path> found;
    for (const auto& entry : fs::directory_iterator(path))
      if (entry.path().extension() == ".idx") found.push_back(entry.path());
    check(!found.empty(), Code::input, "[shard] ", path.string(),
          " holds no .idx file; make one with tokenize pack");
    std::sort(found.begin(), found.end());
    Digest sum;
    for (const fs::path& idx : found) {
      corpus.shards.emplace_back(idx);
      sum += digest_of(digest_of_file(with_suffix(base_of(idx), ".bin")).hex() + idx.filename().string());
    }
    corpus.digest = sum.hex();
  }
  for (const Shard& shard : corpus.shards) {
    corpus.tokens += shard.tokens();
    corpus.documents += shard.documents();
  }
  return corpus;
}

}  // namespace llmctl
