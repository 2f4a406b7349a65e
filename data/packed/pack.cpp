// SPDX-License-Identifier: Apache-2.0
#include "data/packed/pack.h"

#include <optional>

#include "core/base/json.h"

namespace llmctl {

std::vector<int32_t> document_ids(const Tokenizer& tokenizer, const Document& document) {
  std::vector<int32_t> ids = document.messages.empty()
                                 ? tokenizer.encode(document.text)
                                 : apply_chat_template(tokenizer, document.messages, false);
  const auto eos = tokenizer.eos();
  if (eos && !ids.empty() && ids.back() != *eos) ids.push_back(*eos);
  return ids;
}

namespace {

class Packer {
 public:
  Packer(const Tokenizer& tokenizer, const fs::path& folder, const PackOptions& options, const kn::Exec& exec,
         const std::function<void(const PackProgress&)>& progress)
      : tokenizer_(tokenizer), folder_(folder), options_(options), exec_(exec), progress_(progress) {}

  void read(const fs::path& input) {
    read_documents(input, options_.documents, [&](Document&& document) {
      waiting_bytes_ += document.bytes();
      waiting_.push_back(std::move(document));
      if (waiting_.size() >= kBatch || waiting_bytes_ >= kBatchBytes) flush();
    });
    Json entry = {{"path", input.string()}, {"digest", nullptr}};
    if (input != "-") entry["digest"] = digest_of_file(input).hex();
    inputs_.push_back(std::move(entry));
  }

  PackResult finish() {
    flush();
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
  static constexpr size_t kBatch = 1024;
  static constexpr uint64_t kBatchBytes = uint64_t{8} << 20;

  void flush() {
    std::vector<std::vector<int32_t>> ids(waiting_.size());
    for_each_index(exec_, static_cast<int64_t>(ids.size()), [&](int64_t i) {
      ids[static_cast<size_t>(i)] = document_ids(tokenizer_, waiting_[static_cast<size_t>(i)]);
    });
    for (const auto& document : ids) write(document);
    done_.bytes += waiting_bytes_;
    done_.tokens = result_.tokens;
    waiting_.clear();
    waiting_bytes_ = 0;
    if (progress_) progress_(done_);
  }

  void write(const std::vector<int32_t>& ids) {
    if (ids.empty()) {
      ++result_.skipped;
      return;
    }
    if (!writer_) {
      char name[32];
      std::snprintf(name, sizeof name, "shard-%05d", static_cast<int>(result_.shards++));
      name_ = name;
      writer_.emplace(folder_ / name_, tokenizer_.vocab_size(), false);
    }
    writer_->add(ids);
    ++result_.documents;
    result_.tokens += static_cast<int64_t>(ids.size());
    if (writer_->tokens() >= options_.shard_tokens) close_shard();
  }

  void close_shard() {
    if (!writer_) return;
    const int64_t documents = writer_->documents(), tokens = writer_->tokens();
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
  std::vector<Document> waiting_;
  uint64_t waiting_bytes_ = 0;
  PackProgress done_;
  PackResult result_;
  std::optional<ShardWriter> writer_;
  std::string name_;
  Json inputs_ = Json::array(), shards_ = Json::array();
  Digest sum_;
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
