// SPDX-License-Identifier: Apache-2.0
#include "core/base/json.h"

#include <unordered_map>
#include <utility>
#include <vector>

namespace llmctl {
namespace {

constexpr size_t kMaxDepth = 256;

using Pairs = std::vector<std::pair<const std::string, Json>>;
Pairs& pairs_of(Json& object) {
  return object.get_ref<Json::object_t&>();
}

// Builds the tree from parse events. The library's own builder looks every key up in the list of
// those before it, which takes minutes on a vocabulary; here large objects carry an index.
class Builder : public nlohmann::json_sax<Json> {
 public:
  Builder(Json& root, const std::string& who) : root_(root), who_(who) {}

  bool null() override { return leaf(nullptr); }
  bool boolean(bool v) override { return leaf(v); }
  bool number_integer(number_integer_t v) override { return leaf(v); }
  bool number_unsigned(number_unsigned_t v) override { return leaf(v); }
  bool number_float(number_float_t v, const string_t&) override { return leaf(v); }
  bool string(string_t& v) override { return leaf(std::move(v)); }
  bool binary(binary_t& v) override { return leaf(std::move(v)); }
  bool start_object(size_t) override { return open(Json::object()); }
  bool start_array(size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(string_t& k) override {
    stack_.back().slot = slot_of(stack_.back(), k);
    return true;
  }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& e) override {
    std::string text = e.what();
    // "[json.exception.parse_error.101] parse error at line 1, column 2: ..."
    if (size_t at = text.find("] "); at != std::string::npos) text = text.substr(at + 2);
    for (char& c : text)
      if (static_cast<unsigned char>(c) < 0x20) c = ' ';
    throw Error(Code::input, "[json] " + who_ + ": " + text);
  }

 private:
  struct Open {
    Json* node;
    size_t slot = 0;  // of an object: where the next value goes
    std::unordered_map<std::string, size_t> index;
  };

  static size_t slot_of(Open& top, string_t& k) {
    constexpr size_t kIndexFrom = 16;
    Pairs& object = pairs_of(*top.node);
    if (object.size() < kIndexFrom) {
      for (size_t i = 0; i < object.size(); ++i)
        if (object[i].first == k) return i;
    } else {
      if (top.index.empty())
        for (size_t i = 0; i < object.size(); ++i) top.index.emplace(object[i].first, i);
      auto [at, added] = top.index.emplace(k, object.size());
      if (!added) return at->second;
    }
    append(*top.node, std::move(k), nullptr);
    return object.size() - 1;
  }
  Json* place(Json value) {
    if (stack_.empty()) return &(root_ = std::move(value));
    Open& top = stack_.back();
    if (top.node->is_array()) {
      top.node->push_back(std::move(value));
      return &top.node->back();
    }
    return &(pairs_of(*top.node)[top.slot].second = std::move(value));
  }
  bool leaf(Json value) {
    place(std::move(value));
    return true;
  }
  bool open(Json value) {
    check(stack_.size() < kMaxDepth, Code::input, "[json] ", who_, ": nested deeper than ", kMaxDepth,
          " levels");
    stack_.push_back({place(std::move(value)), 0, {}});
    return true;
  }
  bool close() {
    stack_.pop_back();
    return true;
  }

  Json& root_;
  const std::string& who_;
  std::vector<Open> stack_;  // parents keep still while a child is open: no pointer moves
};

}  // namespace

Json parse_json(std::string_view text, const std::string& who) {
  Json root;
  Builder builder(root, who);
  Json::sax_parse(text.begin(), text.end(), &builder, Json::input_format_t::json, true, true);
  return root;
}

Json read_json(const fs::path& path, uint64_t max_bytes) {
  return parse_json(read_file(path, max_bytes), path.string());
}

Json& append(Json& object, std::string key, Json value) {
  return pairs_of(object).emplace_back(std::move(key), std::move(value)).second;
}

std::string json_text(const Json& json, bool pretty) {
  return json.dump(pretty ? 2 : -1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace llmctl
