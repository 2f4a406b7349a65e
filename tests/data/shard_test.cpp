// SPDX-License-Identifier: Apache-2.0
#include "data/packed/shard.h"

#include "data/packed/pack.h"
#include "samples.h"

using namespace llmctl;
using Ids = std::vector<int32_t>;

namespace {

std::string overwrite(std::string bytes, size_t at, std::initializer_list<int> values) {
  for (const int v : values) bytes[at++] = static_cast<char>(v);
  return bytes;
}

}  // namespace

TEST_CASE("a shard's bytes are Megatron's", "[shard]") {
  ScratchFolder folder;
  ShardWriter writer(folder.path / "s", 300, false);
  writer.add(Ids{1, 2, 299});
  writer.add(Ids{7});
  writer.commit();
  CHECK(read_file(folder.path / "s.bin") == std::string("\x01\0\x02\0\x2B\x01\x07\0", 8));
  const std::string idx(
      "MMIDIDX\0\0"
      "\1\0\0\0\0\0\0\0"
      "\x08"
      "\2\0\0\0\0\0\0\0"
      "\3\0\0\0\0\0\0\0"
      "\3\0\0\0"
      "\1\0\0\0"
      "\0\0\0\0\0\0\0\0"
      "\6\0\0\0\0\0\0\0"
      "\0\0\0\0\0\0\0\0"
      "\1\0\0\0\0\0\0\0"
      "\2\0\0\0\0\0\0\0",
      34 + 8 + 16 + 24);
  CHECK(read_file(folder.path / "s.idx") == idx);
  const Shard shard(folder.path / "s.idx");
  CHECK(shard.documents() == 2);
  CHECK(shard.tokens() == 4);
  Ids out(2);
  shard.read(0, 1, out);
  CHECK(out == Ids{2, 299});
  CHECK(code_of([&] { ShardWriter(folder.path / "s", 300, false); }) == Code::usage);
}

TEST_CASE("large vocabularies take 32 bits", "[shard]") {
  ScratchFolder folder;
  ShardWriter writer(folder.path / "s", 65537, false);
  writer.add(Ids{65536, 0});
  writer.commit();
  const Shard shard(folder.path / "s");
  Ids out(2);
  shard.read(0, 0, out);
  CHECK(out == Ids{65536, 0});
  CHECK(fs::file_size(folder.path / "s.bin") == 8);
}

TEST_CASE("what cannot be packed is refused and leaves no file", "[shard]") {
  ScratchFolder folder;
  {
    ShardWriter writer(folder.path / "s", 300, false);
    CHECK(code_of([&] { writer.add(Ids{300}); }) == Code::input);
    CHECK(code_of([&] { writer.add(Ids{-1}); }) == Code::input);
    CHECK(code_of([&] { writer.add(Ids{}); }) == Code::input);
    writer.add(Ids{1});
  }
  CHECK(fs::is_empty(folder.path));
}

TEST_CASE("lying shards are refused", "[shard]") {
  ScratchFolder folder;
  {
    ShardWriter writer(folder.path / "s", 300, false);
    writer.add(Ids{1, 2, 299});
    writer.add(Ids{7});
    writer.commit();
  }
  const std::string idx = read_file(folder.path / "s.idx"), bin = read_file(folder.path / "s.bin");
  const auto opened = [&](const std::string& index, const std::string& tokens) {
    write_file(folder.path / "t.idx", index, true);
    write_file(folder.path / "t.bin", tokens, true);
    return code_of([&] { Shard shard(folder.path / "t"); });
  };
  CHECK(opened(idx, bin) == Code{0});
  CHECK(opened(idx.substr(0, 20), bin) == Code::input);
  CHECK(opened(idx.substr(0, idx.size() - 1), bin) == Code::input);
  CHECK(opened(idx + "x", bin) == Code::input);
  CHECK(opened(idx, bin.substr(1)) == Code::input);
  CHECK(opened(overwrite(idx, 0, {'X'}), bin) == Code::input);
  CHECK(opened(overwrite(idx, 9, {2}), bin) == Code::input);            // version
  CHECK(opened(overwrite(idx, 17, {6}), bin) == Code::unsupported);     // float tokens
  CHECK(opened(overwrite(idx, 17, {4}), bin) == Code::input);           // i32 over u16 bytes
  CHECK(opened(overwrite(idx, 18, {3}), bin) == Code::input);           // sequences
  CHECK(opened(overwrite(idx, 25, {0x7F}), bin) == Code::input);        // sequences, huge
  CHECK(opened(overwrite(idx, 26, {0xFF, 0xFF}), bin) == Code::input);  // entries
  CHECK(opened(overwrite(idx, 34, {0}), bin) == Code::input);           // empty document
  CHECK(opened(overwrite(idx, 37, {0x80}), bin) == Code::input);        // negative length
  CHECK(opened(overwrite(idx, 50, {8}), bin) == Code::input);           // pointer
  CHECK(opened(overwrite(idx, 66, {2}), bin) == Code::unsupported);     // document of two sequences
  CHECK(opened(overwrite(idx, 74, {1}), bin) == Code::input);           // last entry
}

TEST_CASE("packing gives the same bytes for any number of threads", "[shard]") {
  ScratchFolder folder;
  const Tokenizer tokenizer = sample_tokenizer();
  std::string lines;
  for (int i = 0; i < 50; ++i)
    lines += R"({"text": "The dog )" + std::to_string(i) +
             R"( sleeps."})"
             "\n";
  lines +=
      R"({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "The fox."}]})"
      "\n\n";
  write_file(folder.path / "a.jsonl", lines, false);
  write_file(folder.path / "b.txt", "one--two--", false);
  std::string digests[2];
  for (const int threads : {1, 2}) {
    kn::ThreadPool pool(threads);
    const kn::Exec exec{.pool = &pool};
    const fs::path out = folder.path / ("out" + std::to_string(threads));
    fs::create_directories(out);
    PackOptions options;
    options.documents.split_on = "--";
    options.shard_tokens = 200;
    const PackResult r =
        pack_documents({folder.path / "a.jsonl", folder.path / "b.txt"}, tokenizer, out, options, exec, {});
    CHECK(r.documents == 53);
    CHECK(r.shards > 1);
    const PackedCorpus corpus = open_packed(out);
    CHECK(corpus.tokens == r.tokens);
    CHECK(corpus.documents == r.documents);
    CHECK(corpus.digest == r.digest);
    CHECK(corpus.eos == tokenizer.eos());
    CHECK(corpus.vocab_size == tokenizer.vocab_size());
    const Shard& last = corpus.shards.back();
    Ids ids(static_cast<size_t>(last.length(last.documents() - 1)));
    last.read(last.documents() - 1, 0, ids);
    CHECK(ids.back() == *tokenizer.eos());
    CHECK(tokenizer.decode(ids) == "two");
    digests[threads - 1] = r.digest;
  }
  CHECK(digests[0] == digests[1]);
  write_file(folder.path / "bad.jsonl", "{\"text\": 1}\n", false);
  kn::ThreadPool pool(1);
  CHECK(code_of([&] {
          pack_documents({folder.path / "bad.jsonl"}, tokenizer, folder.path, {}, kn::Exec{.pool = &pool},
                         {});
        }) == Code::input);
}
