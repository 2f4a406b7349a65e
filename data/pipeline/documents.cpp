// SPDX-License-Identifier: Apache-2.0
// Documents as JSON lines, zstd in frames of about 1 MiB, one file a source file: {"text", "id":
// "FILE/NUMBER", "source", "file", "offset", "length"} and "url", "date", "licence", "language" where there
// is one; "copies" where there are several. Keys stay: other tools read them.
#include <zstd.h>

#include "core/base/each_index.h"
#include "data/pipeline/stages.h"

namespace llmctl {
namespace {

std::string line_of(const Part& part, const Located& l) {
  const Record& r = l.record;
  Json json = {{"text", r.text},     {"id", std::to_string(r.file) + "/" + std::to_string(r.number)},
               {"source", r.source}, {"file", part.input.string()},
               {"offset", r.offset}, {"length", r.length}};
  if (!r.url.empty()) json["url"] = r.url;
  if (!r.date.empty()) json["date"] = r.date;
  if (!r.licence.empty()) json["licence"] = r.licence;
  if (!r.language.empty()) json["language"] = r.language;
  if (!part.copies.empty() && part.copies[l.place] > 1) json["copies"] = part.copies[l.place];
  return json_text(json) + "\n";
}

std::string packed(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  const size_t n = ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3);
  check(!ZSTD_isError(n), Code::bug, "[data] zstd: ", ZSTD_getErrorName(n));
  out.resize(n);
  return out;
}

// Lines into frames that end with the line that reaches kFrame: their bytes do not depend on the batches.
class FrameWriter {
 public:
  FrameWriter(const fs::path& file, const kn::Exec& exec) : out_(file, true), exec_(exec) {}
  void add(const std::string& line) {
    if (frames_.empty() || frames_.back().size() >= kFrame) frames_.emplace_back();
    frames_.back() += line;
  }
  // Packs and writes the frames that are full; all of them at the end, at least one.
  void flush(bool at_end) {
    if (at_end && frames_.empty() && out_.written() == 0) frames_.emplace_back();
    const size_t full =
        frames_.size() - (at_end || frames_.empty() || frames_.back().size() >= kFrame ? 0 : 1);
    for_each_index(exec_, static_cast<int64_t>(full), [&](int64_t i) {
      std::string& frame = frames_[static_cast<size_t>(i)];
      frame = packed(frame);
    });
    for (size_t i = 0; i < full; ++i) out_.write(frames_[i]);
    frames_.erase(frames_.begin(), frames_.begin() + static_cast<int64_t>(full));
    if (at_end) out_.commit();
  }

 private:
  static constexpr size_t kFrame = size_t{1} << 20;
  OutputFile out_;
  const kn::Exec& exec_;
  std::vector<std::string> frames_;
};

void write_part(StageContext& context, const Part& part, Meter& meter) {
  const fs::path file = context.folder.file(part.number, "jsonl.zst");
  FrameWriter out(file, context.exec);
  Digest digest;
  uint64_t at = 0;
  for_each_batch(context.exec, part, [&](std::vector<Located>& batch) {
    std::erase_if(batch, [&](const Located& l) { return !part.copies.empty() && part.copies[l.place] == 0; });
    std::vector<std::string> lines(batch.size());
    for_each_index(context.exec, static_cast<int64_t>(batch.size()), [&](int64_t i) {
      lines[static_cast<size_t>(i)] = line_of(part, batch[static_cast<size_t>(i)]);
    });
    for (const std::string& line : lines) {
      digest += digest_of(std::to_string(at++) + line);
      out.add(line);
    }
    out.flush(false);
    meter.add(bytes_of(batch));
  });
  out.flush(true);
  Verdicts(part.documents).finish(context.folder, part.number, digest, {file.filename().string()});
}

StageOutcome write_documents(StageContext& context) {
  StageOutcome outcome;
  outcome.bytes = alive_bytes(context.parts);
  Meter meter(context.log, "writing documents", "bytes", outcome.bytes);
  for (const Part& part : context.parts) {
    if (!context.folder.finished_part(part.number).is_null()) continue;
    write_part(context, part, meter);
  }
  return outcome;
}

}  // namespace

Stage documents_stage(const PipelineConfig&) {
  return {"documents", Json::object(), "", write_documents, nullptr};
}

}  // namespace llmctl
