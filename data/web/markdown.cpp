// SPDX-License-Identifier: Apache-2.0
#include "data/web/markdown.h"

#include <algorithm>

namespace llmctl::html {
namespace {

class Writer {
 public:
  Writer(const Tree& tree, const ExtractOptions& options) : nodes_(tree.nodes), options_(options) {}

  std::string write(int32_t root) {
    walk(root, at(root).end);
    trim();
    return std::move(out_);
  }

 private:
  struct List {
    bool numbered;
    int32_t items, end;
  };
  const Node& at(int32_t i) const { return nodes_[static_cast<size_t>(i)]; }

  // Elements end where the node index says; what has to happen then waits on a stack.
  void walk(int32_t from, int32_t to) {
    std::vector<int32_t> open;
    for (int32_t i = from; i < to;) {
      while (!open.empty() && i >= at(open.back()).end) {
        leave(open.back());
        open.pop_back();
      }
      const Node& n = at(i);
      if (n.removed) {
        i = n.end;
      } else if (n.is_text()) {
        text(n.text);
        ++i;
      } else if (n.tag == GUMBO_TAG_TABLE && options_.markdown && is_data_table(i)) {
        table(i);
        i = n.end;
      } else if (n.tag == GUMBO_TAG_PRE) {
        pre(i);
        i = n.end;
      } else {
        enter(i);
        open.push_back(i);
        ++i;
      }
    }
    while (!open.empty()) {
      leave(open.back());
      open.pop_back();
    }
  }

  void enter(int32_t i) {
    const Node& n = at(i);
    if (n.tag == GUMBO_TAG_BR) return line();
    if (n.tag == GUMBO_TAG_CODE && options_.markdown) {
      word("`");
      glued_ = true;
      return;
    }
    if (!is_block(n.tag)) return;
    if (n.tag == GUMBO_TAG_UL || n.tag == GUMBO_TAG_OL) {
      lists_.empty() ? paragraph() : line();
      lists_.push_back({n.tag == GUMBO_TAG_OL, 0, n.end});
      return;
    }
    if (n.tag == GUMBO_TAG_TD || n.tag == GUMBO_TAG_TH) return line();
    if (n.tag == GUMBO_TAG_TR || n.tag == GUMBO_TAG_DT || n.tag == GUMBO_TAG_DD) return line();
    if (n.tag == GUMBO_TAG_BLOCKQUOTE) {
      paragraph();
      ++quotes_;
      return;
    }
    if (n.tag == GUMBO_TAG_LI) {
      line();
      return mark(item_mark(), true);
    }
    if (pending_mark_.empty() || !in_item_) {
      in_list(n) ? line() : paragraph();
    }
    if (const int level = heading_level(n.tag))
      mark(std::string(static_cast<size_t>(level), '#') + " ", false);
  }

  void leave(int32_t i) {
    const Node& n = at(i);
    if (n.tag == GUMBO_TAG_CODE && options_.markdown) {
      glue("`");
      return;
    }
    if (!is_block(n.tag) || n.tag == GUMBO_TAG_BR) return;
    if (n.tag == GUMBO_TAG_UL || n.tag == GUMBO_TAG_OL) {
      lists_.pop_back();
      lists_.empty() ? paragraph() : line();
      return;
    }
    if (n.tag == GUMBO_TAG_BLOCKQUOTE) {
      paragraph();
      --quotes_;
      return;
    }
    if (n.tag == GUMBO_TAG_LI || n.tag == GUMBO_TAG_TD || n.tag == GUMBO_TAG_TH || n.tag == GUMBO_TAG_TR) {
      pending_mark_.clear();
      return line();
    }
    if (heading_level(n.tag)) pending_mark_.clear();
    in_list(n) ? line() : paragraph();
  }

  bool in_list(const Node& n) const { return !lists_.empty() && n.end <= lists_.back().end; }

  std::string item_mark() {
    const size_t deep = lists_.empty() ? 0 : std::min<size_t>(lists_.size() - 1, 16);
    std::string m(2 * deep, ' ');
    if (lists_.empty() || !lists_.back().numbered) return m + "- ";
    return m + std::to_string(++lists_.back().items) + ". ";
  }

  // Written before the next word, so that an empty heading or item leaves nothing.
  void mark(std::string m, bool item) {
    if (!options_.markdown) return;
    pending_mark_ = std::move(m);
    in_item_ = item;
  }

  void line() { breaks_ = std::max(breaks_, 1); }
  void paragraph() { breaks_ = 2; }

  void start_words() {
    if (breaks_ > 0 && !out_.empty()) {
      trim();
      const std::string quote =
          options_.markdown ? std::string(static_cast<size_t>(std::min(std::min(quotes_, quoted_), 16)), '>')
                            : "";
      for (int i = 0; i < breaks_; ++i) {
        if (i > 0) out_ += quote;
        out_ += '\n';
      }
      blank_ = false;
    }
    if (breaks_ > 0 || out_.empty()) {
      if (options_.markdown && quotes_ > 0) {
        out_.append(static_cast<size_t>(std::min(quotes_, 16)), '>');
        out_ += ' ';
      }
      quoted_ = quotes_;
      out_ += pending_mark_;
      pending_mark_.clear();
    }
    breaks_ = 0;
  }

  void word(std::string_view w) {
    start_words();
    if (blank_ && !glued_ && !out_.empty() && out_.back() != '\n' && out_.back() != ' ') out_ += ' ';
    blank_ = glued_ = false;
    out_ += w;
  }
  void glue(std::string_view w) {
    if (breaks_ == 0) out_ += w;
  }

  void text(std::string_view t) {
    for (size_t at = 0; at < t.size();) {
      size_t end = at;
      while (end < t.size() && static_cast<unsigned char>(t[end]) > ' ' && t.substr(end, 2) != "\xC2\xA0")
        ++end;
      if (end > at) word(t.substr(at, end - at));
      at = end;
      if (at >= t.size()) break;
      blank_ = true;
      at += t[at] == '\xC2' ? 2 : 1;
    }
  }

  std::string plain_text(int32_t from, int32_t to) const {
    std::string s;
    for (int32_t i = from; i < to;) {
      const Node& n = at(i);
      if (n.is_text() && !n.removed) s += n.text;
      if (!n.is_text() && is_block(n.tag)) s += n.tag == GUMBO_TAG_BR ? '\n' : ' ';
      i = n.removed ? n.end : i + 1;
    }
    return s;
  }

  void pre(int32_t i) {
    std::string code = plain_text(i + 1, at(i).end);
    while (!code.empty() && (code.back() == '\n' || code.back() == ' ')) code.pop_back();
    const size_t first = code.find_first_not_of("\r\n");
    if (first == std::string::npos) return;
    code.erase(0, first);
    paragraph();
    start_words();
    std::string fence = "```";
    while (code.find(fence) != std::string::npos) fence += '`';
    if (options_.markdown) {
      std::string_view language = at(i).text;
      if (language.empty() && i + 1 < at(i).end && at(i + 1).tag == GUMBO_TAG_CODE) language = at(i + 1).text;
      out_ += fence + std::string(language) + "\n" + code + "\n" + fence;
    } else {
      out_ += code;
    }
    paragraph();
  }

  // At least two rows and two columns, no table and no long text inside: layout tables are walked as text.
  bool is_data_table(int32_t root) const {
    uint32_t rows = 0, cells = 0;
    for (int32_t i = root + 1; i < at(root).end; ++i) {
      const Node& n = at(i);
      if (n.tag == GUMBO_TAG_TABLE || n.tag == GUMBO_TAG_PRE || n.tag == GUMBO_TAG_UL) return false;
      rows += n.tag == GUMBO_TAG_TR;
      const bool cell = n.tag == GUMBO_TAG_TD || n.tag == GUMBO_TAG_TH;
      cells += cell;
      if (cell && n.chars > 1000) return false;
    }
    return rows >= 2 && cells >= 2 * rows && cells <= options_.max_cells;
  }

  static std::string cell_text(const std::string& raw) {
    std::string s;
    bool blank = true;
    for (const char c : raw) {
      const bool b = static_cast<unsigned char>(c) <= ' ';
      if (b && blank) continue;
      if (c == '|') s += '\\';
      s += b ? ' ' : c;
      blank = b;
    }
    while (!s.empty() && s.back() == ' ') s.pop_back();
    return s;
  }

  void table(int32_t root) {
    std::vector<std::vector<std::string>> rows;
    size_t columns = 0;
    for (int32_t i = root + 1; i < at(root).end;) {
      const Node& n = at(i);
      if (n.removed) {
        i = n.end;
        continue;
      }
      if (n.tag == GUMBO_TAG_TR) rows.emplace_back();
      if ((n.tag == GUMBO_TAG_TD || n.tag == GUMBO_TAG_TH) && !rows.empty()) {
        rows.back().push_back(cell_text(plain_text(i + 1, n.end)));
        // A wide cell is its text and empty ones, as far as the row stays readable.
        for (uint32_t c = 1; c < n.columns && rows.back().size() < 64; ++c) rows.back().emplace_back();
        columns = std::max(columns, rows.back().size());
        i = n.end;
        continue;
      }
      if (n.tag == GUMBO_TAG_CAPTION) {
        paragraph();
        text(cell_text(plain_text(i + 1, n.end)));
        i = n.end;
        continue;
      }
      ++i;
    }
    rows.erase(std::remove_if(rows.begin(), rows.end(),
                              [](const auto& r) {
                                return std::all_of(r.begin(), r.end(),
                                                   [](const auto& c) { return c.empty(); });
                              }),
               rows.end());
    if (rows.empty()) return;
    paragraph();
    start_words();
    for (size_t r = 0; r < rows.size(); ++r) {
      if (r > 0) out_ += '\n';
      // a short row is not filled up: a hundred thousand columns in one row cost that row only
      for (const std::string& c : rows[r]) out_ += "| " + c + " ";
      out_ += '|';
      if (r == 0) {
        out_ += '\n';
        for (size_t c = 0; c < std::min<size_t>(columns, 1024); ++c) out_ += "|---";
        out_ += '|';
      }
    }
    paragraph();
  }

  void trim() {
    while (!out_.empty() && (out_.back() == ' ' || out_.back() == '\n')) out_.pop_back();
  }

  const std::vector<Node>& nodes_;
  const ExtractOptions& options_;
  std::string out_, pending_mark_;
  std::vector<List> lists_;
  int breaks_ = 0, quotes_ = 0, quoted_ = 0;
  bool blank_ = false, glued_ = false, in_item_ = false;
};

}  // namespace

std::string markdown_of(const Tree& tree, int32_t root, const ExtractOptions& options) {
  return Writer(tree, options).write(root);
}

}  // namespace llmctl::html
