// SPDX-License-Identifier: Apache-2.0
#include "data/packed/pack.h"

#include <future>
#include <optional>

#include "core/base/json.h"

namespace llmctl {

EncodeScratch EncodeScratches::take() {
  const std::lock_guard lock(mutex_);
  if (free_.empty()) return EncodeScratch();
  EncodeScratch scratch = std::move(free_.back());
  free_.pop_back();
  return scratch;
}

namespace {

void end_document(const Tokenizer& tokenizer, std::vector<int32_t>& ids) {
  const auto eos = tokenizer.eos();
  if (eos && !ids.empty() && ids.back() != *eos) ids.push_back(*eos);
}

}  // namespace

std::vector<int32_t> document_ids(const Tokenizer& tokenizer, const Document& document,
                                  EncodeScratches& scratches) {
  std::vector<int32_t> ids;
  if (document.messages.empty())
    scratches.lend([&](EncodeScratch& scratch) { tokenizer.encode(document.text, {}, scratch, ids); });
  else
    ids = apply_chat_template(tokenizer, document.messages, false);
  end_document(tokenizer, ids);
  return ids;
}

namespace {

class Packer {
 public:
  Packer(const Tokenizer& tokenizer, const fs::path& folder, const PackOptions& options, const kn::Exec& exec,
         const std::function<void(const PackProgress&)>& progress)
      : tokenizer_(tokenizer), folder_(folder), options_(options), exec_(exec), progress_(progress) {}

  void read(const fs::path& input) {
    const TextCut cut = [&](std::string_view text, size_t at) { return tokenizer_.cut_after(text, at); };
    read_raw_documents(input, options_.documents, kPartBytes, cut, [&](RawDocument&& raw) {
      raw_bytes_ += raw.text.size();
      raw_.push_back(std::move(raw));
      if (raw_bytes_ >= kBatchBytes) flush(input);
    });
    flush(input);
    Json entry = {{"path", input.string()}, {"digest", nullptr}};
    if (input != "-") entry["digest"] = digest_of_file(input).hex();
    inputs_.push_back(std::move(entry));
  }

  PackResult finish() {
    finish_writing();
    close_shard();
    check(result_.documents > 0, Code::input, "[pack] the inputs hold no text");
    result_.digest = sum_.hex();
    Json json = {{"format", 1}, {"llmctl", options_.version}, {"tokenizer", tokenizer_.digest()}};
    json["vocab_size"] = tokenizer_.vocab_size();
    json["eos"] = nullptr;
    if (const auto eos = tokenizer_.eos()) json["eos"] = *eos;
    json["inputs"] = inputs_;
    json["shards"] = shards_;
    json["documents"] = result_.documents;
    json["tokens"] = result_.tokens;
    json["digest"] = result_.digest;
    write_file(folder_ / "provenance.json", json.dump(2) + "\n", false);
    return result_;
  }

 private:
  static constexpr uint64_t kBatchBytes = uint64_t{8} << 20;
  static constexpr size_t kPartBytes = size_t{1} << 18;

  // A document, or a part of one that is long.
  struct Part {
    const Document* document = nullptr;
    size_t begin = 0, end = 0;
    bool is_first = true, is_last = true;
    std::vector<int32_t> ids{};
  };

  // A line of JSON may hold a long text too.
  void add_parts(const Document& document, const RawDocument& raw, std::vector<Part>& parts) const {
    const std::string& text = document.text;
    size_t begin = 0;
    while (document.messages.empty() && text.size() - begin > 2 * kPartBytes) {
      const size_t end = tokenizer_.cut_after(text, begin + kPartBytes);
      if (end == text.size()) break;
      parts.push_back({&document, begin, end, raw.is_first && begin == 0, false});
      begin = end;
    }
    parts.push_back({&document, begin, text.size(), raw.is_first && begin == 0, raw.is_last});
  }

  void encode(Part& part) {
    if (part.is_first && part.is_last) {
      part.ids = document_ids(tokenizer_, *part.document, scratches_);
      return;
    }
    if (part.is_first) part.ids = tokenizer_.prefix();
    const std::string_view text = std::string_view(part.document->text).substr(part.begin, part.end - part.begin);
    scratches_.lend(
        [&](EncodeScratch& scratch) { tokenizer_.encode(text, {.add_special = false}, scratch, part.ids); });
    if (!part.is_last) return;
    part.ids.insert(part.ids.end(), tokenizer_.suffix().begin(), tokenizer_.suffix().end());
    end_document(tokenizer_, part.ids);
  }

  // Parses and encodes on the pool; what came of it is written while the next is read and encoded.
  void flush(const fs::path& input) {
    std::vector<Document> documents(raw_.size());
    for_each_index(exec_, static_cast<int64_t>(raw_.size()), [&](int64_t i) {
      const auto d = static_cast<size_t>(i);
      documents[d] = parse_document(std::move(raw_[d]), options_.documents, input);
    });
    std::vector<Part> parts;
    for (size_t d = 0; d < raw_.size(); ++d) add_parts(documents[d], raw_[d], parts);
    for_each_index(exec_, static_cast<int64_t>(parts.size()),
                   [&](int64_t i) { encode(parts[static_cast<size_t>(i)]); });
    finish_writing();
    done_.tokens = result_.tokens;
    done_.bytes += raw_bytes_;
    raw_.clear();
    raw_bytes_ = 0;
    writing_ = std::async([this, written = std::move(parts)] {
      for (const Part& part : written) write(part);
    });
    if (progress_) progress_(done_);
  }

  void finish_writing() {
    if (writing_.valid()) writing_.get();
  }

  void write(const Part& part) {
    has_ids_ = !part.is_first && has_ids_;
    if (!writer_ && !part.ids.empty()) {
      char name[32];
      std::snprintf(name, sizeof name, "shard-%05d", static_cast<int>(result_.shards++));
      name_ = name;
      writer_.emplace(folder_ / name_, tokenizer_.vocab_size(), false);
    }
    if (!part.ids.empty()) writer_->append(part.ids);
    has_ids_ = has_ids_ || !part.ids.empty();
    if (!part.is_last) return;
    if (!has_ids_) {
      ++result_.skipped;
      return;
    }
    writer_->end_document();
    ++result_.documents;
    result_.tokens = shard_tokens_before_ + writer_->tokens();
    if (writer_->tokens() >= options_.shard_tokens) close_shard();
  }

  void close_shard() {
    if (!writer_) return;
    const int64_t documents = writer_->documents(), tokens = writer_->tokens();
    shard_tokens_before_ += tokens;
    const Digest digest = writer_->commit();
    writer_.reset();
    shards_.push_back(
        {{"name", name_}, {"documents", documents}, {"tokens", tokens}, {"digest", digest.hex()}});
    sum_ += digest_of(name_ + digest.hex());
  }

  const Tokenizer& tokenizer_;
  const fs::path folder_;
  const PackOptions& options_;
  const kn::Exec& exec_;
  const std::function<void(const PackProgress&)>& progress_;
  EncodeScratches scratches_;
  std::vector<RawDocument> raw_;  // of the input under way
  uint64_t raw_bytes_ = 0;
  PackProgress done_;
  PackResult result_;
  // Of the thread that writes, until writing_ is done.
  std::optional<ShardWriter> writer_;
  bool has_ids_ = false;  // the document under way
  int64_t shard_tokens_before_ = 0;
  std::string name_;
  Json inputs_ = Json::array(), shards_ = Json::array();
  Digest sum_;
  std::future<void> writing_;  // last: its destructor waits
};

}  // namespace

PackResult pack_documents(const std::vector<fs::path>& inputs, const Tokenizer& tokenizer,
                          const fs::path& folder, const PackOptions& options, const kn::Exec& exec,
                          const std::function<void(const PackProgress&)>& progress) {
  check(options.shard_tokens > 0, Code::usage, "[pack] shards of ", options.shard_tokens, " tokens");
  Packer packer(tokenizer, folder, options, exec, progress);
  for (const fs::path& input : inputs) packer.read(input);
  return packer.finish();
}

}  // namespace llmctl
