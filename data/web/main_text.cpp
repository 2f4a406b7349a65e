// SPDX-License-Identifier: Apache-2.0
#include "data/web/main_text.h"

#include <algorithm>

namespace llmctl::html {
namespace {

constexpr uint32_t kAside = kComment | kRelated | kShare | kNav | kFooter | kSide | kAd | kSignup | kPopup;

class Chooser {
 public:
  Chooser(Tree& tree, const Scan& page) : tree_(tree), page_(page), nodes_(tree.nodes) {}

  int32_t run() {
    if (nodes_.empty() || nodes_[0].chars == 0) return -1;
    drop_hinted();
    weigh();
    int32_t main = heaviest();
    if (main < 0) return -1;
    prune(main);
    return main;
  }

 private:
  Node& at(int32_t i) { return nodes_[static_cast<size_t>(i)]; }
  bool within(int32_t i, int32_t root) { return i >= root && i < at(root).end; }

  // A subtree that says it is something else goes, unless it holds most of the page: class names of
  // wrappers speak of what they contain ("with-sidebar").
  void drop_hinted() {
    const uint32_t all = nodes_[0].chars;
    for (size_t i = 1; i < nodes_.size();) {
      Node& n = nodes_[i];
      if (!n.is_text() && is_aside(n, all)) {
        n.removed = true;
        i = static_cast<size_t>(n.end);
      } else {
        ++i;
      }
    }
  }

  bool is_aside(const Node& n, uint32_t all) const {
    const double share = static_cast<double>(n.chars) / all;
    const bool own_text = (n.hints & kBody) != 0;
    switch (n.tag) {
      case GUMBO_TAG_NAV:
      case GUMBO_TAG_FOOTER:
      case GUMBO_TAG_ASIDE:
        return share < 0.5;
      case GUMBO_TAG_MENU:
      case GUMBO_TAG_FIELDSET:
      case GUMBO_TAG_FORM:
        return share < 0.25;
      case GUMBO_TAG_FIGCAPTION:
        return true;
      default:
        break;
    }
    if (n.hints & kHidden) return share < 0.3;
    if (n.tag == GUMBO_TAG_BODY || n.tag == GUMBO_TAG_MAIN || n.tag == GUMBO_TAG_ARTICLE || own_text)
      return false;
    if (n.hints & kAside) return share < ((n.hints & (kArticle | kMain)) ? 0.15 : 0.4);
    if (n.tag == GUMBO_TAG_HEADER || (n.hints & kHeader)) return share < 0.2;
    if (n.hints & (kCaption | kMeta | kBio)) return share < 0.15;
    return false;
  }

  // Prose counts for its length; links and labels against it.
  double weight(const Block& b) {
    const Node& n = at(b.node);
    const double chars = b.chars, linked = b.chars ? b.link_chars / chars : 0;
    if (heading_level(n.tag)) return 0;
    if (linked > 0.5) return -chars;
    if (tree_.inside(b.node, GUMBO_TAG_PRE) >= 0) return chars * 0.5;
    const bool prose = b.chars >= 80 || (b.chars >= 25 && b.marks > 0 && b.ends_sentence);
    if (!prose) return n.tag == GUMBO_TAG_LI || n.tag == GUMBO_TAG_TD ? -0.1 * chars : -0.4 * chars;
    const double evidence = b.marks > 0 ? 1.0 : 0.5;
    return chars * evidence * (1 - 1.5 * linked);
  }

  void weigh() {
    sums_.assign(nodes_.size(), 0.0);
    skipped_.assign(nodes_.size(), false);
    for (size_t i = 1; i < nodes_.size(); ++i)
      skipped_[i] = nodes_[i].removed || skipped_[static_cast<size_t>(nodes_[i].parent)];
    weights_.assign(tree_.blocks.size(), 0.0);
    for (size_t k = 0; k < tree_.blocks.size(); ++k) {
      const Block& b = tree_.blocks[k];
      if (skipped_[static_cast<size_t>(b.first)]) continue;
      weights_[k] = weight(b);
      sums_[static_cast<size_t>(b.node)] += weights_[k];
    }
    for (size_t i = nodes_.size(); i-- > 1;)
      if (!skipped_[i]) sums_[static_cast<size_t>(nodes_[i].parent)] += sums_[i];
  }

  // What an element says of itself makes it a better or a worse candidate.
  double prior(const Node& n) const {
    double p = 1;
    if (n.hints & kBody) p *= 1.6;
    if (n.tag == GUMBO_TAG_ARTICLE) p *= 1.25;
    if (n.tag == GUMBO_TAG_MAIN || (n.hints & (kMain | kArticle))) p *= 1.1;
    if (n.tag == GUMBO_TAG_LI || n.tag == GUMBO_TAG_BLOCKQUOTE || n.tag == GUMBO_TAG_P ||
        n.tag == GUMBO_TAG_TR)
      p *= 0.6;
    return p;
  }

  int32_t heaviest() {
    int32_t best = -1;
    double top = 0;
    for (size_t i = 0; i < nodes_.size(); ++i) {
      const Node& n = nodes_[i];
      if (skipped_[i] || n.is_text() || !is_block(n.tag)) continue;
      const double s = sums_[i] * prior(n);
      if (s > top || (s == top && best >= 0 && s > 0)) {  // of equals the deeper one
        top = s;
        best = static_cast<int32_t>(i);
      }
    }
    if (best < 0) best = any_text();
    return best;
  }

  // A page of a few words: all that was not dropped.
  int32_t any_text() { return nodes_[0].chars > 0 ? 0 : -1; }

  void prune(int32_t root) {
    for (int32_t i = root + 1; i < at(root).end;) {
      Node& n = at(i);
      if (n.removed || (!n.is_text() && is_links(n, i))) {
        n.removed = true;
        i = n.end;
      } else {
        ++i;
      }
    }
    for (Block& b : tree_.blocks)
      if (within(b.first, root)) prune_block(b);
  }

  // Lists and boxes that are mostly links to elsewhere.
  bool is_links(const Node& n, int32_t) const {
    switch (n.tag) {
      case GUMBO_TAG_UL:
      case GUMBO_TAG_OL:
      case GUMBO_TAG_DIV:
      case GUMBO_TAG_SECTION:
      case GUMBO_TAG_TABLE:
      case GUMBO_TAG_DL:
        return n.chars > 0 && n.link_chars > 0.6 * n.chars && n.chars < 1500;
      default:
        return false;
    }
  }

  void prune_block(const Block& b) {
    const Node& n = at(b.node);
    if (b.chars == 0 || b.link_chars < 0.8 * b.chars) return;
    if (n.tag == GUMBO_TAG_LI || n.tag == GUMBO_TAG_TD || n.tag == GUMBO_TAG_TH) return;
    for (int32_t i = b.first; i <= b.last; ++i)
      if (at(i).is_text()) at(i).removed = true;
  }

  Tree& tree_;
  const Scan& page_;
  std::vector<Node>& nodes_;
  std::vector<double> sums_, weights_;
  std::vector<bool> skipped_;
};

}  // namespace

int32_t choose_main(Tree& tree, const Scan& page) {
  return Chooser(tree, page).run();
}

void remove_hidden(Tree& tree) {
  const uint32_t all = tree.nodes.empty() ? 0 : tree.nodes[0].chars;
  for (Node& n : tree.nodes)
    if ((n.hints & kHidden) && n.chars * 2 < all) n.removed = true;
}

}  // namespace llmctl::html
