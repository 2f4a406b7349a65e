// SPDX-License-Identifier: Apache-2.0
// sentencepiece's .model files: the protocol buffer ModelProto (sentencepiece_model.proto), as far as
// encoding needs it. No token is set before or after a text, as sentencepiece itself does by default.
#include <cstring>

#include "data/text/utf8.h"
#include "data/tokenizer/sentencepiece_bpe.h"
#include "data/tokenizer/tokenizer_source.h"

namespace llmctl {

namespace {

// The fields of one message in order; every length is checked against what is left.
class Message {
 public:
  explicit Message(std::string_view bytes) : bytes_(bytes) {}
  // False at the end. Then number(), text() or real() of the field, by its wire type.
  bool next() {
    if (at_ == bytes_.size()) return false;
    const uint64_t tag = varint();
    field_ = tag >> 3;
    wire_ = tag & 7;
    check(field_ > 0, Code::input, "[tokenizer] the .model file has a field without a number");
    if (wire_ == 0) {
      number_ = varint();
    } else if (wire_ == 1 || wire_ == 5) {
      text_ = take(wire_ == 1 ? 8 : 4);
    } else {
      check(wire_ == 2, Code::input, "[tokenizer] the .model file is no protocol buffer: wire type ", wire_);
      text_ = take(varint());
    }
    return true;
  }
  uint64_t field() const { return field_; }
  uint64_t number() const {
    check(wire_ == 0, Code::input, "[tokenizer] field ", field_, " of the .model file is no integer");
    return number_;
  }
  std::string_view text() const {
    check(wire_ == 2, Code::input, "[tokenizer] field ", field_, " of the .model file is no string");
    return text_;
  }
  float real() const {
    check(wire_ == 5, Code::input, "[tokenizer] field ", field_, " of the .model file is no float");
    float value;
    std::memcpy(&value, text_.data(), sizeof value);
    return value;
  }

 private:
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<uint8_t>(take(1)[0]);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (!(byte & 0x80)) return value;
    }
    throw Error(Code::input, "[tokenizer] the .model file has an integer of more than 64 bits");
  }
  std::string_view take(uint64_t size) {
    check(size <= bytes_.size() - at_, Code::input, "[tokenizer] the .model file ends inside a field");
    const std::string_view part = bytes_.substr(at_, size);
    at_ += size;
    return part;
  }
  std::string_view bytes_, text_;
  size_t at_ = 0;
  uint64_t field_ = 0, wire_ = 0, number_ = 0;
};

SentencePiece piece_of(std::string_view bytes) {
  SentencePiece piece;
  for (Message m(bytes); m.next();) {
    if (m.field() == 1) piece.text = m.text();
    if (m.field() == 2) piece.score = m.real();
    if (m.field() == 3) {
      check(m.number() >= 1 && m.number() <= 6, Code::input, "[tokenizer] a piece is of type ", m.number(),
            ", not 1..6");
      piece.type = static_cast<PieceType>(m.number());
    }
  }
  check(is_utf8(piece.text), Code::input, "[tokenizer] a piece of the .model file is no UTF-8");
  return piece;
}

struct Trainer {
  uint64_t model_type = 1;  // unigram, bpe, word, char
  bool space_as_suffix = false;
  int64_t bos = 1, eos = 2, pad = -1;
};

Trainer trainer_of(std::string_view bytes) {
  Trainer trainer;
  for (Message m(bytes); m.next();) {
    if (m.field() == 3) trainer.model_type = m.number();
    if (m.field() == 24) trainer.space_as_suffix = m.number() != 0;
    if (m.field() == 41) trainer.bos = static_cast<int32_t>(m.number());
    if (m.field() == 42) trainer.eos = static_cast<int32_t>(m.number());
    if (m.field() == 43) trainer.pad = static_cast<int32_t>(m.number());
  }
  return trainer;
}

SentencePieceText text_of(std::string_view bytes) {
  SentencePieceText text;
  for (Message m(bytes); m.next();) {
    if (m.field() == 2) text.charsmap = m.text();
    if (m.field() == 3) text.add_dummy_prefix = m.number() != 0;
    if (m.field() == 4) text.remove_extra_whitespaces = m.number() != 0;
    if (m.field() == 5) text.escape_whitespaces = m.number() != 0;
  }
  return text;
}

}  // namespace

TokenizerSource source_of_sentencepiece(std::string_view content) {
  constexpr size_t kMost = size_t{1} << 24;
  std::vector<SentencePiece> pieces;
  SentencePieceText text;
  Trainer trainer;
  for (Message m(content); m.next();) {
    if (m.field() == 1) pieces.push_back(piece_of(m.text()));
    if (m.field() == 2) trainer = trainer_of(m.text());
    if (m.field() == 3) text = text_of(m.text());
    check(pieces.size() < kMost, Code::input, "[tokenizer] the .model file has more than ", kMost, " pieces");
  }
  check(!pieces.empty(), Code::input, "[tokenizer] the .model file holds no pieces");
  text.space_as_suffix = trainer.space_as_suffix;
  TokenizerSource source{tokenizer_skeleton(), Json::object(), {}};
  source.config = {{"tokenizer_class", "PreTrainedTokenizerFast"}, {"clean_up_tokenization_spaces", false}};
  if (trainer.model_type == 1)
    sentencepiece_unigram(pieces, text, source);
  else if (trainer.model_type == 2)
    sentencepiece_bpe(pieces, text, source);
  else
    throw Error(Code::unsupported, "[tokenizer] sentencepiece model type " +
                                       std::to_string(trainer.model_type) +
                                       " is not offered, only 1 (unigram) and 2 (bpe)");
  const auto name = [&](const char* key, int64_t id) {
    if (id >= 0 && id < static_cast<int64_t>(pieces.size()) &&
        pieces[static_cast<size_t>(id)].type == PieceType::control)
      source.config[key] = pieces[static_cast<size_t>(id)].text;
  };
  name("bos_token", trainer.bos);
  name("eos_token", trainer.eos);
  name("pad_token", trainer.pad);
  return source;
}

}  // namespace llmctl
