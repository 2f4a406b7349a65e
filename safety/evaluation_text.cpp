// SPDX-License-Identifier: Apache-2.0
#include "safety/evaluation_text.h"

#include <algorithm>

#include "core/base/signal.h"
#include "core/models/score.h"
#include "data/packed/shard.h"
#include "data/records/documents.h"
#include "data/tokenizer/chat.h"

namespace llmctl {
namespace {

constexpr int64_t kPassTokens = 2048;  // windows are scored together up to about so many

class TextReader {
 public:
  TextReader(const Tokenizer& tokenizer, int64_t vocab, int64_t limit, EvaluationTexts& out)
      : tokenizer_(tokenizer), vocab_(vocab), limit_(limit), out_(out) {}

  bool full() const { return limit_ > 0 && static_cast<int64_t>(out_.documents.size()) >= limit_; }

  void add(const Document& document, const std::string& who) {
    if (full()) return;
    if (document.messages.empty())
      return add(tokenizer_.encode(document.text), static_cast<int64_t>(document.text.size()), who);
    std::vector<int32_t> ids = apply_chat_template(tokenizer_, document.messages, false);
    const auto bytes = static_cast<int64_t>(tokenizer_.decode(ids).size());
    add(std::move(ids), bytes, who);
  }

  void add(std::vector<int32_t> ids, int64_t bytes, const std::string& who) {
    for (int32_t id : ids)
      check(id >= 0 && id < vocab_, Code::input, "[evaluate] ", who, ": token id ", id,
            " is outside the model's ", vocab_, " ids: tokenizer and model do not belong together");
    const auto eos = tokenizer_.eos(), bos = tokenizer_.bos();
    if (eos && ids.size() > 1 && ids.back() == *eos) ids.pop_back();
    EvaluationDocument document;
    const bool begins = bos && !ids.empty() && ids[0] == *bos;
    if (!begins && !ids.empty())
      document.unpredicted_bytes = std::min(
          bytes, tokenizer_.is_special(ids[0]) ? 0 : static_cast<int64_t>(tokenizer_.piece(ids[0]).size()));
    if (ids.size() < 2) return;
    out_.bos = begins;
    document.bytes = bytes - document.unpredicted_bytes;
    document.ids = std::move(ids);
    out_.documents.push_back(std::move(document));
  }

  void add_packed(const fs::path& folder) {
    const PackedCorpus corpus = open_packed(folder);
    check(corpus.tokenizer_digest.empty() || corpus.tokenizer_digest == tokenizer_.digest(), Code::input,
          "[evaluate] ", folder.string(),
          " was packed with another tokenizer than the model's: ", corpus.tokenizer_digest, " and ",
          tokenizer_.digest());
    for (const Shard& shard : corpus.shards)
      for (int64_t d = 0; d < shard.documents() && !full(); ++d) {
        std::vector<int32_t> ids(static_cast<size_t>(shard.length(d)));
        shard.read(d, 0, ids);
        for (int32_t id : ids)
          check(id >= 0 && id < tokenizer_.vocab_size(), Code::input, "[evaluate] ", folder.string(),
                ": token id ", id, " is outside the tokenizer's ", tokenizer_.vocab_size());
        const auto bytes = static_cast<int64_t>(tokenizer_.decode(ids).size());
        add(std::move(ids), bytes, folder.string());
      }
  }

 private:
  const Tokenizer& tokenizer_;
  int64_t vocab_, limit_;
  EvaluationTexts& out_;
};

bool is_packed(const fs::path& path) {
  if (path.extension() == ".idx" || path.extension() == ".bin") return fs::is_regular_file(path);
  if (!fs::is_directory(path)) return false;
  for (const auto& entry : fs::directory_iterator(path))
    if (entry.path().extension() == ".idx") return true;
  return false;
}

struct Window {
  size_t document;
  int64_t begin, inputs, scored;  // the last `scored` of the inputs' targets count
};

std::vector<Window> windows_of(const EvaluationTexts& texts, int64_t context, int64_t stride) {
  std::vector<Window> windows;
  for (size_t d = 0; d < texts.documents.size(); ++d) {
    const auto targets = static_cast<int64_t>(texts.documents[d].ids.size()) - 1;  // input i predicts i + 1
    int64_t reached = 0;
    for (int64_t begin = 0; reached < targets; begin += stride) {
      const int64_t end = std::min(targets, begin + context);
      windows.push_back({d, begin, end - begin, end - reached});
      reached = end;
    }
  }
  return windows;
}

struct WindowScore {
  double nats = 0, tokens = 0, bytes = 0;
};

// Standard error of sum(nats) / sum(size) over windows drawn at random (Cochran, "Sampling
// techniques", ratio estimates).
template <class Size>
std::optional<double> ratio_error(const std::vector<WindowScore>& windows, Size size) {
  double nats = 0, total = 0, squares = 0;
  for (const WindowScore& w : windows) nats += w.nats, total += size(w);
  if (windows.size() < 2 || total <= 0) return std::nullopt;
  for (const WindowScore& w : windows) {
    const double off = w.nats - nats / total * size(w);
    squares += off * off;
  }
  const auto m = static_cast<double>(windows.size());
  return __builtin_sqrt(squares * m / (m - 1)) / total;
}

class TextScorer {
 public:
  TextScorer(Model& model, const EvaluationTexts& texts, const Tokenizer& tokenizer, TextScore& out,
             const kn::Exec& exec)
      : texts_(texts),
        tokenizer_(tokenizer),
        out_(out),
        room_(std::max(out.context, std::min(kPassTokens, kPassTokens / out.context * out.context))),
        scorer_(model, room_, exec) {}

  void run(const std::vector<Window>& windows) {
    for (const Window& w : windows) {
      if (used_ + w.inputs > room_) flush();
      add(w);
    }
    flush();
    out_.token_error = ratio_error(scores_, [](const WindowScore& w) { return w.tokens; });
    out_.byte_error = ratio_error(scores_, [](const WindowScore& w) { return w.bytes; });
  }

 private:
  void add(const Window& w) {
    const std::vector<int32_t>& ids = texts_.documents[w.document].ids;
    targets_.assign(static_cast<size_t>(w.inputs), -1);
    for (int64_t i = w.inputs - w.scored; i < w.inputs; ++i)
      targets_[static_cast<size_t>(i)] = ids[static_cast<size_t>(w.begin + i + 1)];
    scorer_.batch().add_row({ids.data() + w.begin, static_cast<size_t>(w.inputs)}, targets_, {});
    waiting_.push_back(w);
    used_ += w.inputs;
  }

  void flush() {
    if (waiting_.empty()) return;
    stop_if_interrupted("evaluate");
    const float* loss = scorer_.losses().as<float>();
    for (const Window& w : waiting_) {
      count(w, loss);
      loss += w.inputs;
    }
    waiting_.clear();
    scorer_.batch().clear();
    used_ = 0;
  }

  void count(const Window& w, const float* loss) {
    const EvaluationDocument& document = texts_.documents[w.document];
    WindowScore score;
    for (int64_t i = w.inputs - w.scored; i < w.inputs; ++i) score.nats += static_cast<double>(loss[i]);
    score.tokens = static_cast<double>(w.scored);
    const auto from = document.ids.begin() + w.begin + w.inputs - w.scored + 1;
    score.bytes = static_cast<double>(tokenizer_.decode({from, from + w.scored}).size());
    scores_.push_back(score);
    out_.documents[w.document].nats += score.nats;
    out_.documents[w.document].tokens += w.scored;
  }

  const EvaluationTexts& texts_;
  const Tokenizer& tokenizer_;
  TextScore& out_;
  int64_t room_, used_ = 0;
  Scorer scorer_;
  std::vector<Window> waiting_;
  std::vector<int32_t> targets_;
  std::vector<WindowScore> scores_;
};

}  // namespace

EvaluationTexts read_evaluation_texts(const std::vector<std::string>& inputs, const std::string& field,
                                      const Tokenizer& tokenizer, int64_t vocab, int64_t limit) {
  EvaluationTexts texts;
  TextReader reader(tokenizer, vocab, limit, texts);
  for (const std::string& input : inputs) {
    if (is_packed(input)) {
      reader.add_packed(input);
      continue;
    }
    for (const fs::path& file : expand_inputs({input}))
      if (!reader.full())
        read_documents(file, {.field = field, .split_on = ""},
                       [&](Document&& document) { reader.add(document, file.string()); });
  }
  check(!texts.documents.empty(), Code::input, "[evaluate] ", inputs.empty() ? "no input" : inputs[0],
        ": no document of two tokens or more");
  return texts;
}

std::vector<std::vector<int32_t>> rows_of_texts(const EvaluationTexts& texts, int64_t length, int64_t most) {
  std::vector<std::vector<int32_t>> rows;
  for (const EvaluationDocument& document : texts.documents)
    for (auto from = document.ids.begin(); from != document.ids.end() && most > 0;) {
      const int64_t n = std::min({length, most, static_cast<int64_t>(document.ids.end() - from)});
      rows.emplace_back(from, from + n);
      from += n;
      most -= n;
    }
  return rows;
}

TextScore score_texts(Model& model, const EvaluationTexts& texts, const Tokenizer& tokenizer, int64_t context,
                      int64_t stride, const kn::Exec& exec) {
  TextScore score;
  score.context = context ? context : model.context();
  score.stride = stride ? stride : score.context;
  check(score.context >= 1 && score.context <= model.context(), Code::usage, "[evaluate] context ",
        score.context, " is outside 1..", model.context());
  check(score.stride >= 1 && score.stride <= score.context, Code::usage, "[evaluate] stride ", score.stride,
        " is outside 1..", score.context, ", the context");
  score.bos = texts.bos;
  score.documents.resize(texts.documents.size());
  const std::vector<Window> windows = windows_of(texts, score.context, score.stride);
  score.windows = static_cast<int64_t>(windows.size());
  TextScorer(model, texts, tokenizer, score, exec).run(windows);
  for (size_t d = 0; d < texts.documents.size(); ++d) {
    score.documents[d].bytes = texts.documents[d].bytes;
    score.tokens += score.documents[d].tokens;
    score.nats += score.documents[d].nats;
    score.bytes += texts.documents[d].bytes;
    score.unpredicted_bytes += texts.documents[d].unpredicted_bytes;
  }
  return score;
}

}  // namespace llmctl
