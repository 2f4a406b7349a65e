// SPDX-License-Identifier: Apache-2.0
// Token shards in the format of data/packed/shard.h, and beside each NAME.sources: the records of its
// documents, in its order and without their texts (data/records/record_file.h).
#include "data/packed/pack.h"

#include <fmt/format.h>

#include "data/pipeline/stages.h"

namespace llmctl {
namespace {

// Where the next shard begins, and what all before it hold. A finished shard says it, so a killed run goes
// on behind the last one.
struct Position {
  uint64_t round = 0, part = 0, place = 0;  // of copies; of the next document
  int64_t documents = 0, tokens = 0, skipped = 0;
  Digest sum;
  Json shards = Json::array();

  Json json() const {
    return {{"round", round},   {"part", part},       {"place", place},   {"documents", documents},
            {"tokens", tokens}, {"skipped", skipped}, {"sum", sum.hex()}, {"shards", shards}};
  }
  static Position from(const Json& j) {
    return {j["round"],
            j["part"],
            j["place"],
            j["documents"],
            j["tokens"],
            j["skipped"],
            Digest::from_hex(j["sum"].get<std::string>()),
            j["shards"]};
  }
};

class Packing {
 public:
  Packing(StageContext& context, const Tokenizer& tokenizer)
      : context_(context),
        folder_(context.folder.path()),
        tokenizer_(tokenizer),
        meter_(context.log, "packing", "bytes", alive_bytes(context.parts)) {}

  StageOutcome run() {
    resume();
    const Position from = position_;
    for (uint64_t round = from.round; has_round(round); ++round)
      for (const Part& part : context_.parts)
        if (round > from.round || part.number >= from.part)
          pack_part(part, round, round == from.round && part.number == from.part ? from.place : 0);
    close();
    return finish();
  }

 private:
  void resume() {
    for (size_t n = 0;; ++n) {
      const fs::path file = folder_ / fmt::format("shard-{:05}.json", n);
      if (!fs::exists(file)) break;
      const Json done = read_json(file);
      if (done["key"] != context_.folder.key()) break;
      position_ = Position::from(done["position"]);
    }
    if (!position_.shards.empty())
      context_.log.line(fmt::format("pack: {} shards were done before", position_.shards.size()));
  }

  bool has_round(uint64_t round) const {
    for (const Part& part : context_.parts)
      if (part.copies.empty()
              ? round == 0
              : std::any_of(part.copies.begin(), part.copies.end(), [&](uint64_t c) { return c > round; }))
        return true;
    return false;
  }

  void pack_part(const Part& part, uint64_t round, uint64_t from) {
    if (round > 0 && part.copies.empty()) return;
    for_each_batch(context_.exec, part, [&](std::vector<Located>& batch) {
      std::erase_if(batch, [&](const Located& l) {
        return l.place < from || (!part.copies.empty() && part.copies[l.place] <= round);
      });
      std::vector<std::vector<int32_t>> ids(batch.size());
      const uint64_t bytes = bytes_of(batch);  // before the texts are taken
      for_each_index(context_.exec, static_cast<int64_t>(ids.size()), [&](int64_t i) {
        Document document;
        document.text.swap(batch[static_cast<size_t>(i)].record.text);
        ids[static_cast<size_t>(i)] = document_ids(tokenizer_, document);
      });
      for (size_t i = 0; i < ids.size(); ++i) write(batch[i], ids[i], round, part.number);
      meter_.add(round == 0 ? bytes : 0);
    });
  }

  void write(const Located& located, const std::vector<int32_t>& ids, uint64_t round, uint64_t part) {
    if (ids.empty()) return void(++position_.skipped);
    if (!shard_) {
      name_ = fmt::format("shard-{:05}", position_.shards.size());
      shard_.emplace(folder_ / name_, tokenizer_.vocab_size(), true);
      sources_.emplace(folder_ / (name_ + ".sources"), true);
    }
    shard_->add(ids);
    sources_->add(located.record);
    position_.round = round, position_.part = part, position_.place = located.place + 1;
    if (shard_->tokens() >= context_.config.pack.shard_tokens) close();
  }

  void close() {
    if (!shard_) return;
    const int64_t documents = shard_->documents(), tokens = shard_->tokens();
    const Digest sources = sources_->commit(), digest = shard_->commit();
    shard_.reset(), sources_.reset();
    position_.documents += documents, position_.tokens += tokens;
    position_.sum += digest_of(name_ + digest.hex() + sources.hex());
    position_.shards.push_back(
        {{"name", name_}, {"documents", documents}, {"tokens", tokens}, {"digest", digest.hex()}});
    write_file(folder_ / (name_ + ".json"),
               Json{{"key", context_.folder.key()}, {"position", position_.json()}}.dump(1) + "\n", true);
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
    json["shards"] = position_.shards;
    json["documents"] = position_.documents;
    json["tokens"] = position_.tokens;
    json["digest"] = position_.sum.hex();
    write_file(folder_ / "provenance.json", json.dump(2) + "\n", true);
    for (const Part& part : context_.parts) Verdicts(part.documents).finish(context_.folder, part.number);
    StageOutcome outcome;
    outcome.digest = position_.sum;
    outcome.bytes = alive_bytes(context_.parts);
    for (const Json& shard : position_.shards)
      for (const char* suffix : {".bin", ".idx", ".sources"})
        outcome.files.push_back(shard["name"].get<std::string>() + suffix);
    outcome.files.emplace_back("provenance.json");
    outcome.extra = {{"documents", position_.documents},
                     {"tokens", position_.tokens},
                     {"skipped", position_.skipped},
                     {"shards", position_.shards.size()},
                     {"digest", position_.sum.hex()}};
    return outcome;
  }

  StageContext& context_;
  const fs::path folder_;
  const Tokenizer& tokenizer_;
  Meter meter_;
  Position position_;
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
