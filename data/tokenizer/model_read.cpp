// SPDX-License-Identifier: Apache-2.0
// The "model" of a tokenizer.json: its vocabulary, and BPE, Unigram, WordPiece or WordLevel.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>

#include "data/text/json_fields.h"
#include "data/tokenizer/byte_level.h"
#include "data/tokenizer/tokenizer_state.h"
#include "data/tokenizer/unigram.h"
#include "data/tokenizer/word_piece.h"

namespace llmctl {

namespace {

using State = Tokenizer::State;
constexpr size_t kMaxToken = 65536;  // bytes

// Ids may have small holes, as published vocabularies do; a lying id must not allocate gigabytes.
void size_entries(State& state, int64_t largest, size_t tokens) {
  const auto limit = static_cast<int64_t>(2 * tokens + 4096);
  check(largest < limit, Code::input, "[tokenizer] largest id ", largest, " for ", tokens,
        " tokens leaves too many holes");
  state.entries.resize(static_cast<size_t>(largest + 1));
}

int64_t largest_added(const Json& added) {
  int64_t largest = -1;
  for (const Json& token : added) largest = std::max(largest, int_field(token, "id", 0, kMaxTokenId));
  return largest;
}

// {token: id}
void read_vocab(const Json& vocab, const Json& added, State& state) {
  check(vocab.is_object(), Code::input, "[tokenizer] 'vocab' is ", vocab.type_name(), ", not an object");
  int64_t largest = largest_added(added);
  for (const auto& [spelling, id] : vocab.items()) {
    check(id.is_number_integer() && id.get<int64_t>() >= 0 && id.get<int64_t>() <= kMaxTokenId, Code::input,
          "[tokenizer] id of '", spelling, "' is not an integer in 0..", kMaxTokenId);
    largest = std::max(largest, id.get<int64_t>());
  }
  check(largest >= 0, Code::input, "[tokenizer] the vocabulary is empty");
  size_entries(state, largest, vocab.size() + added.size());
  for (const auto& [spelling, id] : vocab.items()) add_entry(state, spelling, id.get<int64_t>());
}

// [[token, score], ...], in order of ids.
void read_scored_vocab(const Json& vocab, const Json& added, State& state) {
  check(vocab.is_array() && !vocab.empty() && vocab.size() <= static_cast<size_t>(kMaxTokenId), Code::input,
        "[tokenizer] 'vocab' of Unigram is no list of tokens and scores");
  size_entries(state, std::max(largest_added(added), static_cast<int64_t>(vocab.size()) - 1),
               vocab.size() + added.size());
  for (size_t id = 0; id < vocab.size(); ++id) {
    const Json& pair = vocab[id];
    check(pair.is_array() && pair.size() == 2 && pair[0].is_string() && pair[1].is_number(), Code::input,
          "[tokenizer] entry ", id, " of the vocabulary is not a token and its score");
    add_entry(state, pair[0].get<std::string>(), static_cast<int64_t>(id));
  }
}

std::pair<std::string_view, std::string_view> parts_of_merge(const Json& merge) {
  if (merge.is_array()) {
    check(merge.size() == 2 && merge[0].is_string() && merge[1].is_string(), Code::input,
          "[tokenizer] a merge is not a pair of strings");
    return {merge[0].get_ref<const std::string&>(), merge[1].get_ref<const std::string&>()};
  }
  check(merge.is_string(), Code::input, "[tokenizer] a merge is ", merge.type_name(),
        ", not a string or a pair");
  const std::string_view text = merge.get_ref<const std::string&>();
  const size_t space = text.find(' ');
  check(space != text.npos && text.find(' ', space + 1) == text.npos, Code::input,
        "[tokenizer] merge '", text, "' is not two parts with a space between");
  return {text.substr(0, space), text.substr(space + 1)};
}

int32_t id_for_merge(const State& state, std::string_view spelling) {
  const auto id = state.ids.find(spelling);
  check(id.has_value(), Code::input, "[tokenizer] merge needs '", spelling,
        "', which is not in the vocabulary");
  return *id;
}

// How many merges in a row share each rank (then the leftmost of them is made first), or one each.
std::vector<int32_t> ranks_of(size_t merges, const Json& extension) {
  std::vector<int32_t> ranks(merges);
  const Json& runs = extension.is_object() ? field_or_null(extension, "merges_per_rank") : extension;
  size_t at = 0;
  if (runs.is_null()) {
    for (; at < merges; ++at) ranks[at] = static_cast<int32_t>(at);
    return ranks;
  }
  check(runs.is_array(), Code::input, "[tokenizer] 'merges_per_rank' is not a list");
  for (size_t rank = 0; rank < runs.size(); ++rank) {
    const bool fits = runs[rank].is_number_unsigned() && runs[rank].get<uint64_t>() <= merges - at;
    check(fits, Code::input, "[tokenizer] 'merges_per_rank' does not fit ", merges, " merges");
    for (auto n = runs[rank].get<uint64_t>(); n > 0; --n) ranks[at++] = static_cast<int32_t>(rank);
  }
  check(at == merges, Code::input, "[tokenizer] 'merges_per_rank' covers ", at, " of ", merges, " merges");
  return ranks;
}

void read_merges(const Json& model, const Json& extension, const std::vector<IdMerge>& known, State& state) {
  const Json& merges = field(model, "merges");
  check(merges.is_array(), Code::input, "[tokenizer] 'merges' is ", merges.type_name(), ", not a list");
  state.bpe.merges = MergeTable(merges.size());
  const std::vector<int32_t> ranks = ranks_of(merges.size(), extension);
  check(known.empty() || known.size() == ranks.size(), Code::bug, "[tokenizer] ", known.size(),
        " merges by id of ", ranks.size());
  for (size_t i = 0; i < known.size(); ++i)
    state.bpe.merges.set(known[i].left, known[i].right, {ranks[i], known[i].joined});
  if (!known.empty()) return;
  size_t rank = 0;
  std::string joined;
  for (const Json& merge : merges) {
    const auto [left, right] = parts_of_merge(merge);
    check(!left.empty() && !right.empty(), Code::input, "[tokenizer] merge ", rank, " has an empty part");
    joined.assign(left).append(right);
    state.bpe.merges.set(id_for_merge(state, left), id_for_merge(state, right),
                         {ranks[rank++], id_for_merge(state, joined)});
  }
}

bool absent_or_empty(const Json& object, const char* key) {
  const auto it = object.find(key);
  return it == object.end() || it->is_null() ||
         (it->is_string() && it->get_ref<const std::string&>().empty());
}

// An unknown token that is not in the vocabulary is none.
int32_t unknown_id(const Json& model, const State& state) {
  if (absent_or_empty(model, "unk_token")) return -1;
  return state.ids.find(string_field(model, "unk_token")).value_or(-1);
}

// What sentencepiece does otherwise: sums in float, the unknown score from normal pieces alone, and
// pieces that users defined always win.
void read_sentencepiece_scores(const Json& extension, Unigram& unigram) {
  const Json& spm = field_or_null(extension, "sentencepiece");
  if (spm.is_null()) return;
  unigram.single_precision = true;
  const Json& scores = field(spm, "scores");
  check(scores.is_object(), Code::input, "[tokenizer] 'scores' is not an object");
  for (const auto& [id, score] : scores.items()) {
    size_t number = unigram.scores.size();
    std::from_chars(id.data(), id.data() + id.size(), number);
    check(number < unigram.scores.size() && score.is_number(), Code::input, "[tokenizer] score of '", id,
          "' has no token");
    unigram.scores[number] = score.get<double>();
  }
  const Json& unknown = field(spm, "unk_score");
  check(unknown.is_number(), Code::input, "[tokenizer] 'unk_score' is not a number");
  unigram.unk_score = unknown.get<double>();
}

std::string byte_spelling(int byte) {
  constexpr char kHex[] = "0123456789ABCDEF";
  return std::string("<0x") + kHex[byte >> 4] + kHex[byte & 15] + ">";
}

std::set<int64_t> special_ids(const Json& added) {
  std::set<int64_t> special;
  for (const Json& token : added)
    if (bool_field(token, "special", false)) special.insert(int_field(token, "id", 0, kMaxTokenId));
  return special;
}

// The symbols BPE starts from; after this the spelling of a token matters only to people.
void read_symbols(const Json& added, State& state) {
  Bpe& bpe = state.bpe;
  check(!(bpe.byte_level && bpe.byte_fallback), Code::unsupported,
        "[tokenizer] ByteLevel together with byte_fallback is not offered");
  bpe.byte_ids.fill(-1);
  bpe.sizes.assign(state.entries.size(), 0);
  const std::set<int64_t> special = special_ids(added);
  state.ids.for_each([&](std::string_view spelling, int32_t id) {
    if (special.contains(id)) return;
    bpe.sizes[static_cast<size_t>(id)] = static_cast<uint32_t>(spelling.size());
    if (!bpe.byte_level) {
      bpe.ids.add(spelling, id);
    } else if (auto bytes = unspell_bytes(spelling)) {
      bpe.sizes[static_cast<size_t>(id)] = static_cast<uint32_t>(bytes->size());
      if (bytes->size() == 1) bpe.byte_ids[static_cast<uint8_t>((*bytes)[0])] = id;
      bpe.ids.add(*bytes, id);
    }
  });
  for (int b = 0; b < 256 && bpe.byte_fallback; ++b)
    bpe.byte_ids[b] = state.ids.find(byte_spelling(b)).value_or(-1);
}

void read_bpe(const Json& model, const Json& added, const Json& extension, const std::vector<IdMerge>& merges,
              State& state) {
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
    check(absent_or_empty(model, key), Code::unsupported, "[tokenizer] model option '", key,
          "' is not offered");
  const Json& dropout = field_or_null(model, "dropout");
  const bool dry = dropout.is_null() || (dropout.is_number() && dropout.get<double>() == 0.0);
  check(dry, Code::unsupported, "[tokenizer] model option 'dropout' is not offered");
  state.bpe.fuse_unk = bool_field(model, "fuse_unk", false);
  state.bpe.byte_fallback = bool_field(model, "byte_fallback", false);
  state.bpe.ignore_merges = bool_field(model, "ignore_merges", false);
  read_merges(model, extension, merges, state);
  state.bpe.unk = unknown_id(model, state);
  read_symbols(added, state);
}

// The vocabulary as a trie, without what is special: text must not become that by looking like it.
ByteTrie trie_of(const State& state, const Json& added) {
  const std::set<int64_t> special = special_ids(added);
  std::vector<std::pair<std::string_view, int32_t>> entries;
  for (size_t id = 0; id < state.entries.size(); ++id)
    if (state.entries[id].present && !special.contains(static_cast<int64_t>(id)))
      entries.emplace_back(state.entries[id].spelling, static_cast<int32_t>(id));
  return ByteTrie(std::move(entries));
}

std::unique_ptr<const TokenModel> read_unigram(const Json& model, const Json& added, const Json& extension,
                                               const State& state) {
  auto unigram = std::make_unique<Unigram>();
  const Json& vocab = field(model, "vocab");
  double lowest = 0;
  for (const Json& pair : vocab) {
    unigram->scores.push_back(pair[1].get<double>());
    check(std::isfinite(unigram->scores.back()), Code::input, "[tokenizer] score of token ",
          unigram->scores.size() - 1, " is not finite");
    lowest = unigram->scores.size() == 1 ? unigram->scores[0] : std::min(lowest, unigram->scores.back());
  }
  unigram->unk_score = lowest - 10.0;
  if (!field_or_null(model, "unk_id").is_null())
    unigram->unk =
        static_cast<int32_t>(int_field(model, "unk_id", 0, static_cast<int64_t>(vocab.size()) - 1));
  unigram->byte_fallback = bool_field(model, "byte_fallback", false);
  unigram->byte_ids.fill(-1);
  for (int b = 0; b < 256; ++b)
    unigram->byte_ids[static_cast<size_t>(b)] = state.ids.find(byte_spelling(b)).value_or(-1);
  if (extension.is_object()) read_sentencepiece_scores(extension, *unigram);
  unigram->trie = trie_of(state, added);
  return unigram;
}

std::unique_ptr<const TokenModel> read_word_piece(const Json& model, const Json& added, const State& state) {
  auto words = std::make_unique<WordPiece>();
  const std::string mark = string_field(model, "continuing_subword_prefix");
  words->unk = unknown_id(model, state);
  words->longest_word = static_cast<size_t>(int_field(model, "max_input_chars_per_word", 0, INT32_MAX));
  words->trie = trie_of(state, added);
  words->continuation = words->trie.walk(ByteTrie::kRoot, mark);
  words->prefix_size = mark.size();
  for (const State::Entry& entry : state.entries)
    words->sizes.push_back(static_cast<uint32_t>(entry.spelling.size()));
  return words;
}

std::unique_ptr<const TokenModel> read_word_level(const Json& model, const Json& added, const State& state) {
  auto words = std::make_unique<WordLevel>();
  words->unk = unknown_id(model, state);
  words->trie = trie_of(state, added);
  return words;
}

// Files of before 2021 name no type.
std::string model_type(const Json& model) {
  if (model.contains("type")) return type_field(model);
  if (model.contains("merges")) return "BPE";
  if (model.contains("unk_id")) return "Unigram";
  return model.contains("continuing_subword_prefix") ? "WordPiece" : "WordLevel";
}

}  // namespace

void add_entry(Tokenizer::State& state, const std::string& spelling, int64_t id) {
  check(spelling.size() <= kMaxToken, Code::input, "[tokenizer] token ", id, " has ", spelling.size(),
        " bytes, at most ", kMaxToken, " are read");
  Tokenizer::State::Entry& entry = state.entries[static_cast<size_t>(id)];
  check(!entry.present, Code::input, "[tokenizer] id ", id, " is given to '", entry.spelling, "' and to '",
        spelling, "'");
  const bool fresh = state.ids.add(spelling, static_cast<int32_t>(id));
  check(fresh, Code::input, "[tokenizer] token '", spelling, "' has two ids");
  entry.spelling = spelling;
  entry.present = true;
}

void read_model(const Json& model, const Json& added, const Json& extension, const std::vector<IdMerge>& merges,
                State& state) {
  check(model.is_object(), Code::input, "[tokenizer] 'model' is ", model.type_name(), ", not an object");
  const std::string type = model_type(model);
  state.bpe.byte_level = type == "BPE" && state.pre_tokenizer.byte_level();
  const bool words = type == "Unigram" || type == "WordPiece" || type == "WordLevel";
  check(words || type == "BPE", Code::unsupported, "[tokenizer] model '", type, "' is not offered");
  check(!words || !state.pre_tokenizer.byte_level(), Code::unsupported, "[tokenizer] ByteLevel before ", type,
        " is not offered");
  if (type == "Unigram")
    read_scored_vocab(field(model, "vocab"), added, state);
  else
    read_vocab(field(model, "vocab"), added, state);
  if (type == "BPE")
    read_bpe(model, added, extension, merges, state);
  else if (type == "Unigram")
    state.other = read_unigram(model, added, extension, state);
  else if (type == "WordPiece")
    state.other = read_word_piece(model, added, state);
  else
    state.other = read_word_level(model, added, state);
}

}  // namespace llmctl
