// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer/tokenizer.h"

#include "data/text/utf8.h"
#include "data/tokenizer/tokenizer_state.h"

namespace llmctl {

namespace {

// Pieces repeat: within one text each is merged once. Bounded, so that a long text of unlike pieces
// does not fill the memory.
class PieceMemory {
 public:
  explicit PieceMemory(const TokenModel& model) : model_(model) {}
  void encode(std::string_view piece, std::vector<int32_t>& out) {
    if (piece.size() > kLongest) return model_.encode(piece, out);
    if (const auto known = pieces_.find(piece)) {
      const auto [begin, end] = spans_[static_cast<size_t>(*known)];
      out.insert(out.end(), ids_.begin() + begin, ids_.begin() + end);
      return;
    }
    const size_t before = out.size();
    model_.encode(piece, out);
    if (spans_.size() >= kMost) return;
    const auto begin = static_cast<uint32_t>(ids_.size());
    ids_.insert(ids_.end(), out.begin() + static_cast<ptrdiff_t>(before), out.end());
    pieces_.add(piece, static_cast<int32_t>(spans_.size()));
    spans_.emplace_back(begin, static_cast<uint32_t>(ids_.size()));
  }

 private:
  static constexpr size_t kLongest = 32, kMost = size_t{1} << 18;
  const TokenModel& model_;
  StringIds pieces_;
  std::vector<std::pair<uint32_t, uint32_t>> spans_;  // of ids_, by what pieces_ gives
  std::vector<int32_t> ids_;
};

}  // namespace

void Tokenizer::save(const fs::path& folder) const {
  fs::create_directories(folder);
  write_file(folder / "tokenizer.json", state_->json_text, true);
  write_file(folder / "tokenizer_config.json",
             parse_json(state_->config_text, "tokenizer_config.json").dump(2) + "\n", true);
}

struct EncodeScratch::State {
  size_t cache_bytes = 0;
  const BpeEncoder* filled_by = nullptr;
  std::optional<PieceCache> cache;
  PieceCache* cache_for(const BpeEncoder* encoder) {
    if (cache_bytes == 0) return nullptr;
    if (filled_by != encoder || !cache) cache.emplace(cache_bytes);
    filled_by = encoder;
    return &*cache;
  }
};

EncodeScratch::EncodeScratch(size_t cache_bytes) : state_(std::make_unique<State>()) {
  state_->cache_bytes = cache_bytes;
}
EncodeScratch::~EncodeScratch() = default;
EncodeScratch::EncodeScratch(EncodeScratch&&) noexcept = default;

std::vector<int32_t> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  EncodeScratch scratch(0);
  std::vector<int32_t> out;
  encode(text, options, scratch, out);
  return out;
}

void Tokenizer::encode(std::string_view text, EncodeOptions options, EncodeScratch& scratch,
                       std::vector<int32_t>& out) const {
  const State& s = *state_;
  if (options.add_special) out.insert(out.end(), s.prefix.begin(), s.prefix.end());
  PieceMemory memory(s.model());
  PieceCache* cache = s.quick ? scratch.state_->cache_for(s.quick.get()) : nullptr;
  const auto encode_plain = [&](std::string_view plain, bool at_start) {
    if (s.quick) return s.quick->encode(plain, at_start, s.pre_tokenizer, cache, out);
    s.pre_tokenizer.for_each_piece(plain, at_start,
                                   [&](std::string_view piece) { memory.encode(piece, out); });
  };
  for (const Section& section : s.raw_finder.split(text, options.parse_special)) {
    if (section.id >= 0) {
      out.push_back(section.id);
      continue;
    }
    std::string_view normal = text.substr(section.begin, section.end - section.begin);
    std::string changed;
    if (!s.normalizer.empty()) normal = changed = s.normalizer.apply(normal);
    for (const Section& inner : s.normalized_finder.split(normal, options.parse_special)) {
      if (inner.id >= 0)
        out.push_back(inner.id);
      else
        encode_plain(normal.substr(inner.begin, inner.end - inner.begin),
                     section.begin == 0 && inner.begin == 0);
    }
  }
  if (options.add_special) out.insert(out.end(), s.suffix.begin(), s.suffix.end());
}

size_t Tokenizer::cut_after(std::string_view text, size_t from) const {
  const State& s = *state_;
  const bool cuttable = s.quick && s.pre_tokenizer.splitter() && s.normalizer.empty() &&
                        s.raw_finder.idle(false) && s.normalized_finder.idle(false);
  for (size_t at = from; cuttable && (at = text.find('\n', at)) != std::string_view::npos; ++at) {
    if (at == 0 || at + 1 >= text.size()) continue;
    const char before = text[at - 1];
    const int letter = static_cast<unsigned char>(text[at + 1]) | 0x20;
    if (before > ' ' && before < 0x7F && letter >= 'a' && letter <= 'z') return at + 1;
  }
  return text.size();
}
const std::vector<int32_t>& Tokenizer::prefix() const {
  return state_->prefix;
}
const std::vector<int32_t>& Tokenizer::suffix() const {
  return state_->suffix;
}

std::string Tokenizer::decode(const std::vector<int32_t>& ids, bool skip_special) const {
  std::string text;
  int left = state_->decoder.strip_start;
  bool first = true;
  for (const int32_t id : ids) {
    check(id >= 0 && id < vocab_size() && state_->entries[static_cast<size_t>(id)].present, Code::input,
          "[tokenizer] id ", id, " is not in the vocabulary of ", vocab_size());
    if (skip_special && is_special(id)) continue;
    text += state_->bytes_of(static_cast<size_t>(id), first);
    first = false;
  }
  strip_start(state_->decoder, left, text);
  const std::string& last = state_->decoder.last_dropped;
  if (!last.empty() && text.ends_with(last)) text.resize(text.size() - last.size());
  return text;
}

std::string Tokenizer::piece(int32_t id) const {
  return id >= 0 && id < vocab_size() ? state_->entries[static_cast<size_t>(id)].bytes : "";
}

int64_t Tokenizer::vocab_size() const {
  return static_cast<int64_t>(state_->entries.size());
}

std::optional<int32_t> Tokenizer::id_of(std::string_view token) const {
  return state_->ids.find(token);
}

std::string Tokenizer::token_of(int32_t id) const {
  return id >= 0 && id < vocab_size() ? state_->entries[static_cast<size_t>(id)].spelling : "";
}

bool Tokenizer::is_special(int32_t id) const {
  return id >= 0 && id < vocab_size() && state_->entries[static_cast<size_t>(id)].special;
}

std::optional<int32_t> Tokenizer::bos() const {
  return state_->bos;
}
std::optional<int32_t> Tokenizer::eos() const {
  return state_->eos;
}
std::string Tokenizer::chat_template() const {
  return state_->chat_template;
}
std::string Tokenizer::digest() const {
  return state_->digest;
}

// ---------------------------------------------------------------- one id at a time

struct StreamDecoder::State {
  Tokenizer tokenizer;
  TokenDecoder decoder;  // only what strip_start() needs
  bool skip_special = true, first = true;
  int strip_left = 0;
  std::string pending;

  // Everything complete; the unfinished tail stays unless `all`, and what the end of a text loses.
  std::string take(bool all) {
    std::string out, tail;
    if (!decoder.last_dropped.empty() && pending.ends_with(decoder.last_dropped)) {
      tail = decoder.last_dropped;
      pending.resize(pending.size() - tail.size());
    }
    size_t at = 0;
    while (at < pending.size()) {
      const CodePoint point = code_point_at(pending, at);
      if (point.kind == CodePoint::Kind::cut && !all) break;
      if (point.kind == CodePoint::Kind::valid)
        out.append(pending, at, point.bytes);
      else
        out.append("\xEF\xBF\xBD");
      at += point.bytes;
    }
    pending.erase(0, at);
    if (!all) pending += tail;
    return out;
  }
};

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special)
    : state_(std::make_unique<State>()) {
  const TokenDecoder& decoder = tokenizer.state_->decoder;
  state_->tokenizer = tokenizer;
  state_->decoder.strip = decoder.strip;
  state_->decoder.last_dropped = decoder.last_dropped;
  state_->strip_left = decoder.strip_start;
  state_->skip_special = skip_special;
}

StreamDecoder::~StreamDecoder() = default;
StreamDecoder::StreamDecoder(StreamDecoder&&) noexcept = default;

std::string StreamDecoder::push(int32_t id) {
  if (state_->skip_special && state_->tokenizer.is_special(id)) return "";
  if (id < 0 || id >= state_->tokenizer.vocab_size()) return "";
  std::string bytes = state_->tokenizer.state_->bytes_of(static_cast<size_t>(id), state_->first);
  state_->first = false;
  if (state_->strip_left > 0) strip_start(state_->decoder, state_->strip_left, bytes);
  state_->pending += bytes;
  return state_->take(false);
}

std::string StreamDecoder::finish() {
  return state_->take(true);
}

}  // namespace llmctl
