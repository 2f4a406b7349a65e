// SPDX-License-Identifier: Apache-2.0
// What `data run` does, as one config. Every stage has its part of it, and is done again when that part
// changes; `output`, like threads, decides where and how fast but no byte.
#pragma once

#include <string>
#include <vector>

#include "core/base/config.h"

namespace llmctl {

struct SourceConfig {
  std::string name = "corpus", licence;
  std::vector<std::string> inputs;
  std::string format = "auto", field = "text";
  int64_t priority = 0;
  double weight = 0, epochs = 1;
  template <class V>
  void fields(V& v) {
    v("name", name, "what reports and the mixture call it");
    v("inputs", inputs, "files, folders or globs, .gz and .zst too");
    v("licence", licence, "of records that do not say");
    v("format", format, "auto: by the name").choices({"auto", "warc", "jsonl", "text", "markdown", "html"});
    v("field", field, "text field of JSON lines");
    v("priority", priority, "the copy kept is that of the lowest priority, then the lowest id")
        .range(0, 65535);
    v("weight", weight, "share of the mixture, in any unit; 0: as much as there is times epochs")
        .range(0, 1e6);
    v("epochs", epochs, "copies of each document, to a thousandth; with weights: the most of them")
        .range(0, 1000);
  }
};

struct ExtractConfig {
  uint64_t max_record_bytes = uint64_t{64} << 20, max_html_bytes = uint64_t{16} << 20;
  uint32_t max_depth = 512, max_nodes = 1000000, max_attributes = 1024, max_cells = 20000;
  bool markdown = true, keep_all = false;
  template <class V>
  void fields(V& v) {
    v("max_record_bytes", max_record_bytes,
      "unpacked, of a WARC block, a line or a file; larger ones are skipped")
        .range(1, 1e12);
    v("max_html_bytes", max_html_bytes, "of a page; larger ones are dropped").range(1, 1e12);
    v("max_depth", max_depth, "of elements; below, tags are lost and text is kept").range(1, 1e5);
    v("max_nodes", max_nodes, "of a page").range(1, 1e9);
    v("max_attributes", max_attributes, "of one tag").range(1, 1e9);
    v("max_cells", max_cells, "of a table; larger ones become lines").range(1, 1e9);
    v("markdown", markdown, "headings, lists, tables and code keep their marks");
    v("keep_all", keep_all, "everything visible, menus too");
  }
};

struct LanguageConfig {
  std::vector<std::string> keep;
  double min_score = 0.65;
  template <class V>
  void fields(V& v) {
    v("keep", keep, "languages kept (en, de, ...); none: all");
    v("min_score", min_score, "share of the text in that language").range(0, 1);
  }
};

struct MinHashConfig {
  bool enabled = false;
  int64_t words = 5, bands = 14, rows = 8;
  double threshold = 0.72;
  uint64_t seed = 1;
  template <class V>
  void fields(V& v) {
    v("enabled", enabled, "drop near duplicates, found by MinHash and verified by Jaccard");
    v("words", words, "of a shingle").range(1, 64);
    v("bands", bands, "of signatures").range(1, 1024);
    v("rows", rows, "of a band").range(1, 64);
    v("threshold", threshold, "least true Jaccard of a duplicate").range(0, 1);
    v("seed", seed, "of the hashes");
  }
};

struct LinesConfig {
  bool enabled = false;
  std::string part = "line";
  uint32_t span = 1, min_words = 5;
  double max_removed = 0.5;
  template <class V>
  void fields(V& v) {
    v("enabled", enabled, "cut out parts of texts that were seen before");
    v("part", part, "what is compared").choices({"line", "paragraph", "sentence"});
    v("span", span, "parts in a row that are compared as one").range(1, 64);
    v("min_words", min_words, "of a span; shorter ones stay").range(1, 1e6);
    v("max_removed", max_removed, "share of bytes above which the document goes").range(0, 1);
  }
};

struct DedupConfig {
  bool exact = true;
  MinHashConfig minhash;
  LinesConfig lines;
  int64_t memory_mb = 512;
  template <class V>
  void fields(V& v) {
    v("exact", exact, "drop documents of equal text");
    v.object("minhash", minhash);
    v.object("lines", lines);
    v("memory_mb", memory_mb, "held while sorting; no result depends on it").range(16, 1e6);
  }
};

struct DecontaminateConfig {
  std::vector<std::string> inputs;
  uint32_t ngram = 13, min_words = 8, max_records = 16;
  double min_overlap = 0.5;
  template <class V>
  void fields(V& v) {
    v("inputs", inputs, "evaluation files, JSON lines: every string of a record counts");
    v("ngram", ngram, "words that make an overlap").range(3, 64);
    v("min_words", min_words, "of an evaluation text that is shorter").range(1, 64);
    v("max_records", max_records, "records that may share an n-gram before it counts as their template")
        .range(1, 1e6);
    v("min_overlap", min_overlap, "least share of a record's n-grams found in a document that goes")
        .range(0, 1);
  }
};

struct ScoreConfig {
  std::string classifier, perplexity;
  double min_quality = 0, max_perplexity = 0;
  template <class V>
  void fields(V& v) {
    v("classifier", classifier, "folder made by data train-scorer");
    v("min_quality", min_quality, "least probability of good text kept; 0: only scored").range(0, 1);
    v("perplexity", perplexity, "file of an n-gram model");
    v("max_perplexity", max_perplexity, "greatest perplexity kept; 0: only scored").range(0, 1e12);
  }
};

struct ScrubConfig {
  bool enabled = false, email = true, phone = true, ip = true, card = true, secret = true, fineweb = false;
  template <class V>
  void fields(V& v) {
    v("enabled", enabled, "replace personal data and keys");
    v("email", email, "e-mail addresses");
    v("phone", phone, "telephone numbers");
    v("ip", ip, "public IP addresses");
    v("card", card, "card numbers whose check digit is right");
    v("secret", secret, "keys, tokens and passwords");
    v("fineweb", fineweb, "FineWeb's replacements instead of [EMAIL] and the like");
  }
};

struct MixConfig {
  int64_t characters = 0;
  uint64_t seed = 0;
  template <class V>
  void fields(V& v) {
    v("characters", characters, "bytes of text in all when sources have weights; 0: as much as epochs allow")
        .range(0, 1e18);
    v("seed", seed, "of the choice of documents for part of an epoch");
  }
};

struct PackConfig {
  std::string tokenizer;
  int64_t shard_tokens = int64_t{1} << 28;
  template <class V>
  void fields(V& v) {
    v("tokenizer", tokenizer, "folder or file; none: documents are written as JSON lines");
    v("shard_tokens", shard_tokens, "tokens after which a shard ends").range(1, 1e12);
  }
};

struct PipelineConfig {
  std::string preset, output;
  std::vector<SourceConfig> sources;
  Json filters = Json::array();
  ExtractConfig extract;
  LanguageConfig language;
  DedupConfig dedup;
  DecontaminateConfig decontaminate;
  ScoreConfig score;
  ScrubConfig scrub;
  MixConfig mix;
  PackConfig pack;
  template <class V>
  void fields(V& v) {
    v("preset", preset, "published recipe that the config begins with; what it names beside is changed")
        .choices({"", "c4", "gopher", "fineweb", "refinedweb"});
    v("output", output, "folder of the run");
    v("sources", sources, "list of {name, inputs, ...}");
    v.object("extract", extract);
    v("filters", filters, "recipes of rules, in order");
    v.object("language", language);
    v.object("dedup", dedup);
    v.object("decontaminate", decontaminate);
    v.object("score", score);
    v.object("scrub", scrub);
    v.object("mix", mix);
    v.object("pack", pack);
  }
};

// The config a preset begins with, with every argument named. Error{usage} for a name that is none.
PipelineConfig preset_config(const std::string& name);

// What a config says that cannot be: Error{input}.
void check_config(const PipelineConfig& config);

}  // namespace llmctl
