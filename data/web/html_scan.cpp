// SPDX-License-Identifier: Apache-2.0
#include "data/web/html_scan.h"

#include <algorithm>
#include <charconv>

#include "data/web/html_hints.h"
#include "data/web/html_metadata.h"
#include "data/web/html_nesting.h"
#include "data/web/html_tag.h"
#include "data/web/html_tags.h"

namespace llmctl::html {
namespace {

constexpr size_t npos = std::string_view::npos;

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
bool is_blank(char c) {
  return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f';
}

bool styled_away(std::string_view style) {
  std::string s;
  for (const char c : style.substr(0, 512))
    if (!is_blank(c)) s += static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  return s.find("display:none") != npos || s.find("visibility:hidden") != npos;
}

class Scanner {
 public:
  Scanner(std::string_view html, const ExtractOptions& options)
      : html_(html), options_(options), nesting_(options.max_depth) {
    out_.lean.reserve(html.size() / 4 + 64);
  }

  Scan run() {
    for (size_t at = 0; at < html_.size() && !out_.refused;) {
      const size_t open = std::min(html_.find('<', at), html_.size());
      text(html_.substr(at, open - at));
      if (open == html_.size()) break;
      at = markup(open);
    }
    metadata_.finish(out_);
    return std::move(out_);
  }

 private:
  // `at` stands on '<'; returns where to go on.
  size_t markup(size_t at) {
    const char next = at + 1 < html_.size() ? html_[at + 1] : 0;
    if (is_letter(next) || (next == '/' && at + 2 < html_.size() && is_letter(html_[at + 2]))) {
      const size_t end = read_tag(html_, at, tag_);
      if (end == npos) return html_.size();  // the page ends inside a tag: it is no tag
      if (tag_.attributes > options_.max_attributes) out_.refused = "too_many_attributes";
      return tag_.closes ? closing(end) : opening(end);
    }
    if (html_.substr(at, 4) == "<!--") return behind_comment(at);
    if (next == '!' || next == '?' || next == '/') {
      const size_t end = html_.find('>', at);
      return end == npos ? html_.size() : end + 1;
    }
    text("&lt;");
    return at + 1;
  }

  size_t behind_comment(size_t at) const {
    if (html_.substr(at, 5) == "<!-->") return at + 5;
    if (html_.substr(at, 6) == "<!--->") return at + 6;
    const size_t plain = html_.find("-->", at + 4);
    // "--!>" ends one too; looked for only up to the plain end, so that the work stays linear
    const size_t odd = html_.substr(0, plain == npos ? npos : plain).find("--!>", at + 4);
    if (odd != npos) return odd + 4;
    return plain == npos ? html_.size() : plain + 3;
  }

  size_t opening(size_t end) {
    const TagRule rule = rule_of(tag_.name);
    if (dropping_.empty()) metadata_.see(tag_);
    if (rule.use == TagUse::raw || rule.use == TagUse::title) return raw_content(end, rule);
    if (tag_.name == "plaintext") {
      text(html_.substr(end));
      return html_.size();
    }
    if (!dropping_.empty()) return end;
    if (rule.use == TagUse::drop) return start_dropping(end);
    if (tag_.name == "math" && !tag_.alttext.empty()) text(tag_.alttext);
    if (rule.use == TagUse::keep) return emit(rule.name, hints()), end;
    if (rule.use == TagUse::mark) {
      const uint32_t marks = hints();
      if (marks & ~(kMain | kArticle | kBody)) emit(rule.name, marks);
    }
    if (rule.use == TagUse::keep_void) {
      out_.lean += '<';
      out_.lean += rule.name;
      out_.lean += '>';
      blank_ = true;
    }
    return end;
  }

  size_t closing(size_t end) {
    if (!dropping_.empty()) {
      if (tag_.name == dropping_) dropping_.clear();
      return end;
    }
    const TagRule rule = rule_of(tag_.name);
    if (rule.use == TagUse::keep || rule.use == TagUse::mark || tag_.name == "br") {
      nesting_.close(rule.name);
      if (rule.name == "pre" || rule.name == "listing") pre_ -= pre_ > 0;
      out_.lean += "</";
      out_.lean += rule.name;
      out_.lean += '>';
    }
    return end;
  }

  // An element whose end never comes would take the rest of the page with it: then only its tag goes.
  size_t start_dropping(size_t end) {
    if (std::find(endless_.begin(), endless_.end(), tag_.name) != endless_.end()) return end;
    size_t probe = end;
    for (; (probe = html_.find("</", probe)) != npos; probe += 2)
      if (same_name(html_.substr(probe + 2, tag_.name.size()), tag_.name)) break;
    if (probe == npos) {
      endless_.push_back(tag_.name);
      return end;
    }
    dropping_ = tag_.name;
    return end;
  }

  size_t raw_content(size_t end, const TagRule& rule) {
    const size_t close = end_of_raw(html_, end, rule.name);
    const std::string_view content = html_.substr(end, close == npos ? npos : close - end);
    if (rule.use == TagUse::title && dropping_.empty()) metadata_.title(content);
    if (rule.name == "script") metadata_.script(tag_.type, content);
    if (close == npos) return html_.size();
    const size_t behind = html_.find('>', close);
    return behind == npos ? html_.size() : behind + 1;
  }

  uint32_t hints() const {
    uint32_t h = hints_of(tag_.class_) | hints_of(tag_.id) | role_hints(tag_.role);
    const std::string_view item = tag_.itemprop;
    if (item == "articleBody") h |= kBody;
    if (item == "headline") h |= kTitle;
    if (item == "comment") h |= kComment;
    if (item == "author" || item == "datePublished" || item == "dateModified") h |= kMeta;
    if (item == "caption") h |= kCaption;
    if (tag_.hidden || tag_.aria_hidden == "true" || (!tag_.style.empty() && styled_away(tag_.style)))
      h |= kHidden;
    if (!tag_.href.empty()) h |= kLinked;
    return h;
  }

  void emit(std::string_view name, uint32_t marks) {
    if (!nesting_.open(name)) return;
    std::string& lean = out_.lean;
    lean += '<';
    lean += name;
    if (marks) {
      char hex[16];
      const auto end = std::to_chars(hex, hex + sizeof hex, marks, 16).ptr;
      lean += " h=";
      lean.append(hex, end);
    }
    if (!tag_.colspan.empty() && tag_.colspan.size() < 4 &&
        std::all_of(tag_.colspan.begin(), tag_.colspan.end(), [](char c) { return c >= '0' && c <= '9'; })) {
      lean += " c=";
      lean += tag_.colspan;
    }
    if (name == "code" || name == "pre") emit_language();
    lean += '>';
    if (name == "pre" || name == "listing") ++pre_;
  }

  // class="language-cpp" or "lang-cpp", as highlighters write it.
  void emit_language() {
    for (const std::string_view mark : {"language-", "lang-"}) {
      const size_t at = tag_.class_.find(mark);
      if (at == npos) continue;
      std::string language;
      for (const char c : tag_.class_.substr(at + mark.size()).substr(0, 16)) {
        if (!is_letter(c) && !(c >= '0' && c <= '9') && c != '+' && c != '#' && c != '-') break;
        language += c;
      }
      if (!language.empty()) out_.lean += " l=" + language;
      return;
    }
  }

  void text(std::string_view t) {
    if (!dropping_.empty() || t.empty()) return;
    std::string& lean = out_.lean;
    if (pre_ > 0) {
      for (const char c : t)
        if (c != 0) lean += c;
      return;
    }
    for (size_t at = 0; at < t.size();) {
      size_t end = at;
      while (end < t.size() && static_cast<unsigned char>(t[end]) > ' ') ++end;
      if (end > at) {
        lean.append(t.data() + at, end - at);
        blank_ = false;
      }
      for (at = end; at < t.size() && static_cast<unsigned char>(t[at]) <= ' '; ++at)
        if (!blank_ && t[at] != 0) {
          lean += ' ';
          blank_ = true;
        }
    }
  }

  std::string_view html_;
  const ExtractOptions& options_;
  Nesting nesting_;
  Metadata metadata_;
  Scan out_;
  Tag tag_;
  std::string dropping_;  // the element that goes with its content; "" for none
  std::vector<std::string> endless_;
  uint32_t pre_ = 0;
  bool blank_ = true;  // the text so far ends in a blank
};

}  // namespace

Scan scan(std::string_view html, const ExtractOptions& options) {
  return Scanner(html, options).run();
}

}  // namespace llmctl::html
