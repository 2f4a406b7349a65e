// SPDX-License-Identifier: Apache-2.0
// Token shards in the format of data/packed/shard.h, and beside each NAME.sources: the records of its
// documents, in its order and without their texts (data/records/record_file.h).
#include "data/packed/pack.h"

#include <fmt/format.h>

#include "data/pipeline/stages.h"

namespace llmctl {
namespace {

// Where a shard begins, and what all before it hold.
struct Position {
  uint64_t round = 0, part = 0, place = 0;  // of copies; of the next document
  int64_t documents = 0, tokens = 0, skipped = 0;
  Digest sum;

  Json json() const {
    return {{"round", round},   {"part", part},       {"place", place},  {"documents", documents},
            {"tokens", tokens}, {"skipped", skipped}, {"sum", sum.hex()}};
  }
  static Position from(const Json& j) {
    return {j["round"],
            j["part"],
            j["place"],
            j["documents"],
            j["tokens"],
            j["skipped"],
            Digest::from_hex(j["sum"].get<std::string>())};
  }
};

// What shard-N.json says: {key, begin, end, shard {name, documents, tokens, digest}, files}. Shards are
// functions of where they begin, so one that is lost is packed again alone.
std::string shard_name(size_t number) {
  return fmt::format("shard-{:05}", number);
}

class Packing {
 public:
  Packing(StageContext& context, const Tokenizer& tokenizer)
      : context_(context),
        folder_(context.folder.path()),
        tokenizer_(tokenizer),
        meter_(context.log, "packing", "bytes", alive_bytes(context.parts)) {}

  StageOutcome run() {
    find_done();
    for (take_done(); !pack_from(position_); take_done()) {
    }
    return finish();
  }

 private:
  // Sound shards under this key, by name. What else is called a shard goes: it is not of this run.
  void find_done() {
    std::vector<fs::path> found;
    for (const auto& entry : fs::directory_iterator(folder_))
      if (entry.path().filename().string().starts_with("shard-")) found.push_back(entry.path());
    std::sort(found.begin(), found.end());
    for (const fs::path& file : found) {
      if (file.extension() != ".json") continue;
      const Json shard = read_json(file);
      const std::string fault = fault_of(folder_, shard["files"]);
      if (!fault.empty()) context_.log.warning("[data] pack: " + fault + ": the shard is packed again");
      if (fault.empty() && shard["key"] == context_.folder.key()) done_.emplace(file.stem().string(), shard);
    }
    for (const fs::path& file : found)
      if (done_.count(file.stem().string()) == 0) fs::remove(file);
    if (!done_.empty()) context_.log.line(fmt::format("pack: {} shards were done before", done_.size()));
  }

  // Whether the next shard is done and begins here.
  bool is_next_done() const {
    const auto at = done_.find(shard_name(shards_.size()));
    return at != done_.end() && at->second["begin"] == position_.json();
  }
  void take_done() {
    while (is_next_done()) {
      const Json& shard = done_[shard_name(shards_.size())];
      shards_.push_back(shard["shard"]);
      files_.insert(files_.end(), shard["files"].begin(), shard["files"].end());
      position_ = Position::from(shard["end"]);
    }
  }

  // Packs until a shard ends behind which the next is done (false), or to the end.
  bool pack_from(const Position from) {
    begin_ = from;
    for (uint64_t round = from.round; has_round(round); ++round)
      for (const Part& part : context_.parts) {
        if (round == from.round && part.number < from.part) continue;
        const bool is_first = round == from.round && part.number == from.part;
        if (!pack_part(part, round, is_first ? from.place : 0)) return false;
      }
    close();
    return true;
  }

  bool has_round(uint64_t round) const {
    for (const Part& part : context_.parts)
      if (part.copies.empty()
              ? round == 0
              : std::any_of(part.copies.begin(), part.copies.end(), [&](uint64_t c) { return c > round; }))
        return true;
    return false;
  }

  bool pack_part(const Part& part, uint64_t round, uint64_t from) {
    if (round > 0 && part.copies.empty()) return true;
    bool going = true;
    for_each_batch(context_.exec, part, from, [&](std::vector<Located>& batch) {
      std::erase_if(batch,
                    [&](const Located& l) { return !part.copies.empty() && part.copies[l.place] <= round; });
      std::vector<std::vector<int32_t>> ids(batch.size());
      const uint64_t bytes = bytes_of(batch);  // before the texts are taken
      for_each_index(context_.exec, static_cast<int64_t>(ids.size()), [&](int64_t i) {
        Document document;
        document.text.swap(batch[static_cast<size_t>(i)].record.text);
        ids[static_cast<size_t>(i)] = document_ids(tokenizer_, document, scratches_);
      });
      for (size_t i = 0; going && i < ids.size(); ++i) going = write(batch[i], ids[i], round, part.number);
      meter_.add(round == 0 ? bytes : 0);
      return going;
    });
    return going;
  }

  // False when the shards behind this document are done.
  bool write(const Located& located, const std::vector<int32_t>& ids, uint64_t round, uint64_t part) {
    if (ids.empty()) return ++position_.skipped, true;
    if (!shard_) {
      name_ = shard_name(shards_.size());
      shard_.emplace(folder_ / name_, tokenizer_.vocab_size(), true);
      sources_.emplace(folder_ / (name_ + ".sources"), true);
    }
    shard_->add(ids);
    sources_->add(located.record);
    position_.round = round, position_.part = part, position_.place = located.place + 1;
    if (shard_->tokens() < context_.config.pack.shard_tokens) return true;
    close();
    return !is_next_done();
  }

  void close() {
    if (!shard_) return;
    const int64_t documents = shard_->documents(), tokens = shard_->tokens();
    const Digest sources = sources_->commit(), digest = shard_->commit();
    shard_.reset(), sources_.reset();
    position_.documents += documents, position_.tokens += tokens;
    position_.sum += digest_of(name_ + digest.hex() + sources.hex());
    Json files = Json::array();
    for (const char* suffix : {".bin", ".idx", ".sources"})
      files.push_back(finished_file(folder_, name_ + suffix));
    shards_.push_back(
        {{"name", name_}, {"documents", documents}, {"tokens", tokens}, {"digest", digest.hex()}});
    const Json done = {{"key", context_.folder.key()},
                       {"begin", begin_.json()},
                       {"end", position_.json()},
                       {"shard", shards_.back()},
                       {"files", files}};
    write_file(folder_ / (name_ + ".json"), done.dump(1) + "\n", true);
    files_.insert(files_.end(), files.begin(), files.end());
    begin_ = position_;
  }

  StageOutcome finish() {
    check(position_.documents > 0, Code::input, "[data] nothing is left to pack: see `data report`");
    Json json = {{"format", 1}, {"llmctl", context_.version}, {"tokenizer", tokenizer_.digest()}};
    json["vocab_size"] = tokenizer_.vocab_size();
    json["eos"] = nullptr;
    if (const auto eos = tokenizer_.eos()) json["eos"] = *eos;
    json["inputs"] = Json::array();
    for (const Part& part : context_.parts)
      json["inputs"].push_back({{"path", part.input.string()}, {"digest", part.input_digest.hex()}});
    json["shards"] = shards_;
    json["documents"] = position_.documents;
    json["tokens"] = position_.tokens;
    json["digest"] = position_.sum.hex();
    write_file(folder_ / "provenance.json", json.dump(2) + "\n", true);
    for (const Part& part : context_.parts) Verdicts(part.documents).finish(context_.folder, part.number);
    StageOutcome outcome;
    outcome.digest = position_.sum;
    outcome.bytes = alive_bytes(context_.parts);
    outcome.files = files_;
    outcome.files.push_back(finished_file(folder_, "provenance.json"));
    outcome.extra = {{"documents", position_.documents},
                     {"tokens", position_.tokens},
                     {"skipped", position_.skipped},
                     {"shards", shards_.size()},
                     {"digest", position_.sum.hex()}};
    return outcome;
  }

  StageContext& context_;
  const fs::path folder_;
  const Tokenizer& tokenizer_;
  EncodeScratches scratches_;
  Meter meter_;
  Position position_,
      begin_;  // of the next document; of the shard under way, with what was skipped before it
  std::map<std::string, Json> done_;
  Json shards_ = Json::array(), files_ = Json::array();
  std::string name_;
  std::optional<ShardWriter> shard_;
  std::optional<RecordFileWriter> sources_;
};

StageOutcome pack(StageContext& context) {
  const Tokenizer tokenizer = Tokenizer::load(context.config.pack.tokenizer);
  return Packing(context, tokenizer).run();
}

}  // namespace

Stage pack_stage(const PipelineConfig& config) {
  return {"pack",
          {{"shard_tokens", config.pack.shard_tokens},
           {"tokenizer", Tokenizer::load(config.pack.tokenizer).digest()}},
          "",
          pack,
          nullptr};
}

}  // namespace llmctl
