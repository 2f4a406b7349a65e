// SPDX-License-Identifier: Apache-2.0
// How many copies of each document: whole epochs of its source, and one more for a share of its documents
// that is a function of (seed, id). Integers only. Weights are of the bytes of text as they are packed, after
// lines were cut and personal data replaced.
#include <fmt/format.h>

#include <cmath>

#include "data/packed/counter_random.h"
#include "data/pipeline/stages.h"

namespace llmctl {
namespace {

constexpr uint64_t kOne = 1000000;  // copies are counted in millionths
using Wide = unsigned __int128;

uint64_t thousandths(double value) {
  return static_cast<uint64_t>(std::llround(value * 1000));
}

std::vector<uint64_t> bytes_of_sources(const StageContext& context) {
  std::vector<uint64_t> bytes(context.config.sources.size());
  for (const Part& part : context.parts) {
    const Columns columns = Columns::load(part.sizes, {"bytes"});
    for (uint64_t d = 0; d < part.documents; ++d)
      if (part.alive[d]) bytes[part.source] += columns.get("bytes").integers[d];
  }
  return bytes;
}

// Bytes of all sources together: as asked, or as many as no source's epochs forbid.
Wide total_bytes(const PipelineConfig& config, const std::vector<uint64_t>& bytes, uint64_t weights) {
  if (config.mix.characters > 0) return static_cast<Wide>(config.mix.characters);
  Wide least = ~Wide{0};
  for (size_t s = 0; s < bytes.size(); ++s) {
    const SourceConfig& source = config.sources[s];
    if (bytes[s] == 0) continue;
    least = std::min(least, Wide{bytes[s]} * thousandths(source.epochs) * weights /
                                (Wide{1000} * thousandths(source.weight)));
  }
  return least;
}

// Copies of a document of each source, in millionths.
std::vector<uint64_t> copies_of(const StageContext& context, const std::vector<uint64_t>& bytes) {
  const PipelineConfig& config = context.config;
  uint64_t weights = 0;
  // A source of which nothing is left has no say in how much there is of the others.
  for (size_t s = 0; s < bytes.size(); ++s) {
    const SourceConfig& source = config.sources[s];
    if (bytes[s] > 0) weights += thousandths(source.weight);
    if (bytes[s] == 0 && source.weight > 0)
      context.log.warning(
          fmt::format("[data] nothing is left of source {}: its weight goes to the others", source.name));
  }
  const Wide total = weights > 0 ? total_bytes(config, bytes, weights) : 0;
  std::vector<uint64_t> copies;
  for (size_t s = 0; s < bytes.size(); ++s) {
    const SourceConfig& source = config.sources[s];
    const uint64_t most = thousandths(source.epochs) * (kOne / 1000);
    if (weights == 0 || bytes[s] == 0) {
      copies.push_back(weights == 0 ? most : 0);
      continue;
    }
    const Wide share = total * thousandths(source.weight) / weights;
    const Wide wanted = share * kOne / bytes[s];
    if (wanted > most)
      context.log.warning(
          fmt::format("[data] source {} has {} bytes: {} epochs of it are less than its weight asks for",
                      source.name, bytes[s], source.epochs));
    copies.push_back(static_cast<uint64_t>(std::min<Wide>(wanted, most)));
  }
  return copies;
}

StageOutcome mix(StageContext& context) {
  const std::vector<uint64_t> bytes = bytes_of_sources(context);
  const std::vector<uint64_t> copies = copies_of(context, bytes);
  StageOutcome outcome;
  outcome.rules = {"mix.share"};
  for (size_t s = 0; s < copies.size(); ++s)
    outcome.extra[context.config.sources[s].name] = {{"bytes", bytes[s]},
                                                     {"epochs", static_cast<double>(copies[s]) / kOne}};
  for (const Part& part : context.parts) {
    Verdicts verdicts(part.documents);
    std::vector<uint64_t>& of = verdicts.columns().add_integer("copies");
    const uint64_t whole = copies[part.source] / kOne, rest = copies[part.source] % kOne;
    for (uint64_t d = 0; d < part.documents; ++d) {
      if (!part.alive[d]) continue;
      of[d] = whole + (keyed_bits(context.config.mix.seed, place_id(part.number, d)) % kOne < rest ? 1 : 0);
      if (of[d] == 0) verdicts.drop(d, 0);
    }
    verdicts.finish(context.folder, part.number);
  }
  return outcome;
}

void load_copies(const StageFolder& folder, const Json&, std::vector<Part>& parts) {
  for (Part& part : parts)
    part.copies = Columns::load(folder.file(part.number, "verdicts"), {"copies"}).get("copies").integers;
}

}  // namespace

Stage mix_stage(const PipelineConfig& config) {
  MixConfig c = config.mix;
  Json shares = Json::array();
  for (const SourceConfig& s : config.sources)
    shares.push_back({thousandths(s.weight), thousandths(s.epochs)});
  return {"mix", {{"mix", fields_of(c).write()}, {"shares", shares}}, "", mix, load_copies};
}

}  // namespace llmctl
