// SPDX-License-Identifier: Apache-2.0
#include "data/web/html_tree.h"

#include <algorithm>
#include <charconv>
#include <csetjmp>
#include <cstdlib>
#include <cstring>

#include "data/text/utf8.h"

namespace llmctl::html {

// Gumbo's memory: taken in large pieces and let go at once, so that no tree is ever torn down node by node
// (gumbo does that by recursion). Gumbo cannot be told to stop, so at the limit the arena jumps out of it:
// it is plain C that owns nothing but what lies here.
struct Tree::Arena {
  static constexpr size_t kPiece = size_t{1} << 20;
  std::vector<std::unique_ptr<char[]>> pieces;
  size_t at = 0, room = 0, total = 0, limit = 0;
  std::jmp_buf out;

  static void* take(void* self, size_t bytes) {
    Arena& a = *static_cast<Arena*>(self);
    bytes = (bytes + 15) & ~size_t{15};
    if (bytes > a.room - a.at) {
      if (bytes > a.limit || a.total > a.limit - bytes) std::longjmp(a.out, 1);
      a.room = std::max(kPiece, bytes);
      a.pieces.emplace_back(new (std::nothrow) char[a.room]);
      if (!a.pieces.back()) std::longjmp(a.out, 1);
      a.total += a.room;
      a.at = 0;
    }
    char* p = a.pieces.back().get() + a.at;
    a.at += bytes;
    return p;
  }
};

namespace {

// No object with a destructor lives between setjmp and the jump.
const GumboOutput* parse(std::jmp_buf& out, const GumboOptions& options, const char* data, size_t size) {
  if (setjmp(out)) return nullptr;
  return gumbo_parse_with_options(&options, data, size);
}

bool is_inline(GumboTag tag) {
  return tag == GUMBO_TAG_A || tag == GUMBO_TAG_SPAN || tag == GUMBO_TAG_CODE || tag == GUMBO_TAG_SUP;
}

template <class T>
T number_of(const char* text, int base, T fallback) {
  T value = fallback;
  std::from_chars(text, text + std::strlen(text), value, base);
  return value;
}

Node element_of(const GumboElement& e) {
  Node node;
  node.tag = e.tag;
  for (unsigned i = 0; i < e.attributes.length; ++i) {
    const auto* a = static_cast<const GumboAttribute*>(e.attributes.data[i]);
    if (!std::strcmp(a->name, "h")) node.hints = number_of<uint32_t>(a->value, 16, 0);
    if (!std::strcmp(a->name, "c"))
      node.columns = std::clamp<uint32_t>(number_of<uint32_t>(a->value, 10, 1), 1, 64);
    if (!std::strcmp(a->name, "l")) node.text = a->value;
  }
  return node;
}

// Marks of sentences and their parts: , . ! ? ; : and the Chinese, Arabic, Devanagari ones.
bool is_mark(char32_t c) {
  switch (c) {
    case ',':
    case '.':
    case '!':
    case '?':
    case ';':
    case 0x3001:
    case 0x3002:
    case 0xFF0C:
    case 0xFF01:
    case 0xFF1F:
    case 0x060C:
    case 0x061F:
    case 0x06D4:
    case 0x0964:
    case 0x0E2F:
    case 0x2026:
      return true;
    default:
      return false;
  }
}

}  // namespace

bool is_block(GumboTag tag) {
  return tag != GUMBO_TAG_LAST && !is_inline(tag);
}

int heading_level(GumboTag tag) {
  return tag >= GUMBO_TAG_H1 && tag <= GUMBO_TAG_H6 ? static_cast<int>(tag) - GUMBO_TAG_H1 + 1 : 0;
}

Tree::Tree(const std::string& lean, const ExtractOptions& options) : arena_(std::make_shared<Arena>()) {
  arena_->limit = size_t{options.max_nodes} * 256 + lean.size() * 8;
  GumboOptions how = kGumboDefaultOptions;
  how.allocator = &Arena::take;
  how.deallocator = [](void*, void*) {};
  how.userdata = arena_.get();
  how.max_errors = 0;
  const GumboOutput* parsed = parse(arena_->out, how, lean.data(), lean.size());
  if (!parsed) {
    refused = "too_many_nodes";
    return;
  }
  flatten(parsed->root, options);
  if (!refused) count();
}

void Tree::flatten(const GumboNode* root, const ExtractOptions& options) {
  struct Frame {
    const GumboNode* node;
    unsigned child;
    int32_t index;
  };
  std::vector<Frame> stack;
  const auto enter = [&](const GumboNode* n) {
    if (n->type == GUMBO_NODE_TEXT || n->type == GUMBO_NODE_WHITESPACE || n->type == GUMBO_NODE_CDATA) {
      Node text;
      text.tag = GUMBO_TAG_LAST;
      text.text = n->v.text.text;
      text.parent = stack.empty() ? -1 : stack.back().index;
      nodes.push_back(text);
      nodes.back().end = static_cast<int32_t>(nodes.size());
    } else if (n->type == GUMBO_NODE_ELEMENT) {
      nodes.push_back(element_of(n->v.element));
      nodes.back().parent = stack.empty() ? -1 : stack.back().index;
      stack.push_back({n, 0, static_cast<int32_t>(nodes.size()) - 1});
    }
  };
  enter(root);
  while (!stack.empty()) {
    if (nodes.size() > options.max_nodes) refused = "too_many_nodes";
    if (stack.size() > size_t{options.max_depth} * 4 + 64) refused = "too_deep";
    if (refused) return;
    Frame& top = stack.back();
    const GumboVector& children = top.node->v.element.children;
    if (top.child < children.length) {
      enter(static_cast<const GumboNode*>(children.data[top.child++]));
    } else {
      nodes[static_cast<size_t>(top.index)].end = static_cast<int32_t>(nodes.size());
      stack.pop_back();
    }
  }
}

void Tree::count() {
  // The block around each node, and whether a link is around it, from parents to children.
  struct Context {
    int32_t block_node;
    bool linked;
  };
  std::vector<Context> context(nodes.size());
  int32_t last_block_node = -1;
  bool broken = true;  // a block element began or ended since the last text
  for (size_t i = 0; i < nodes.size(); ++i) {
    Node& n = nodes[i];
    const Context above = n.parent < 0 ? Context{0, false} : context[static_cast<size_t>(n.parent)];
    context[i] = {is_block(n.tag) && n.tag != GUMBO_TAG_BR ? static_cast<int32_t>(i) : above.block_node,
                  above.linked || (n.tag == GUMBO_TAG_A && (n.hints & kLinked))};
    if (!n.is_text()) {
      if (is_block(n.tag) && n.tag != GUMBO_TAG_BR) broken = true;
      continue;
    }
    if (above.block_node != last_block_node) broken = true;
    CodePoint c;
    uint32_t chars = 0, marks = 0;
    char32_t last = 0;
    for (size_t at = 0; at < n.text.size(); at += c.bytes) {
      c = code_point_at(n.text, at);
      const char32_t value = c.kind == CodePoint::Kind::valid ? c.value : 0xFFFD;
      if (value <= ' ' || value == 0xA0) continue;
      ++chars;
      marks += is_mark(value);
      last = value;
    }
    n.chars = chars;
    n.link_chars = above.linked ? chars : 0;
    if (chars == 0 && (broken || blocks.empty())) continue;
    if (broken || blocks.empty()) {
      blocks.push_back({above.block_node, static_cast<int32_t>(i), static_cast<int32_t>(i)});
      broken = false;
      last_block_node = above.block_node;
    }
    Block& b = blocks.back();
    n.block = static_cast<int32_t>(blocks.size()) - 1;
    b.last = static_cast<int32_t>(i);
    b.chars += chars;
    b.link_chars += n.link_chars;
    b.marks += marks;
    if (last) b.ends_sentence = is_mark(last) || last == '"' || last == 0x201D || last == ')' || last == ':';
  }
  for (size_t i = nodes.size(); i-- > 1;) {
    Node& up = nodes[static_cast<size_t>(nodes[i].parent)];
    up.chars += nodes[i].chars;
    up.link_chars += nodes[i].link_chars;
  }
}

int32_t Tree::inside(int32_t node, GumboTag tag) const {
  while (node >= 0 && nodes[static_cast<size_t>(node)].tag != tag)
    node = nodes[static_cast<size_t>(node)].parent;
  return node;
}

}  // namespace llmctl::html
