// SPDX-License-Identifier: Apache-2.0
#include "data/web/html_hints.h"

#include <algorithm>
#include <cctype>
#include <iterator>

#include "data/web/html_scan.h"

namespace llmctl::html {
namespace {

struct Word {
  std::string_view word;
  uint32_t hints;
};

// Sorted. The vocabulary of web templates, not of any one site.
constexpr Word kWords[] = {
    {"actions", kShare},
    {"ad", kAd},
    {"ads", kAd},
    {"adsbygoogle", kAd},
    {"adslot", kAd},
    {"advert", kAd},
    {"advertisement", kAd},
    {"advertising", kAd},
    {"affiliate", kAd},
    {"alert", kPopup},
    {"also", kRelated},
    {"article", kArticle},
    {"articlebody", kBody},
    {"articlecontent", kBody},
    {"articletext", kBody},
    {"aside", kSide},
    {"attribution", kMeta},
    {"author", kMeta},
    {"authors", kMeta},
    {"banner", kAd},
    {"bio", kBio},
    {"blogpost", kArticle},
    {"bookmark", kShare},
    {"bottombar", kFooter},
    {"breadcrumb", kNav},
    {"breadcrumbs", kNav},
    {"breaking", kRelated},
    {"byline", kMeta},
    {"caption", kCaption},
    {"captions", kCaption},
    {"carousel", kGallery},
    {"category", kMeta},
    {"comment", kComment},
    {"commentlist", kComment},
    {"comments", kComment},
    {"complementary", kSide},
    {"consent", kPopup},
    {"content", kMain},
    {"contentinfo", kFooter},
    {"cookie", kPopup},
    {"cookies", kPopup},
    {"copyright", kFooter},
    {"credit", kCaption},
    {"credits", kCaption},
    {"crumb", kNav},
    {"crumbs", kNav},
    {"cta", kSignup},
    {"date", kMeta},
    {"dateline", kMeta},
    {"dialog", kPopup},
    {"disclaimer", kFooter},
    {"discussion", kComment},
    {"disqus", kComment},
    {"donate", kSignup},
    {"donation", kSignup},
    {"entry", kArticle},
    {"entrycontent", kBody},
    {"facebook", kShare},
    {"fb", kShare},
    {"figcaption", kCaption},
    {"follow", kShare},
    {"foot", kFooter},
    {"footer", kFooter},
    {"gallery", kGallery},
    {"gdpr", kPopup},
    {"header", kHeader},
    {"headline", kTitle},
    {"hidden", kHidden},
    {"hide", kHidden},
    {"instagram", kShare},
    {"invisible", kHidden},
    {"jetpack", kRelated},
    {"latest", kRelated},
    {"lightbox", kPopup},
    {"login", kSignup},
    {"main", kMain},
    {"maincontent", kMain},
    {"masthead", kHeader},
    {"mbox", kAd},
    {"menu", kNav},
    {"menus", kNav},
    {"meta", kMeta},
    {"metadata", kMeta},
    {"modal", kPopup},
    {"mostread", kRelated},
    {"mpu", kAd},
    {"nav", kNav},
    {"navbar", kNav},
    {"navigation", kNav},
    {"newsletter", kSignup},
    {"newsletters", kSignup},
    {"noprint", kShare},
    {"outbrain", kRelated},
    {"overlay", kPopup},
    {"pager", kNav},
    {"pagination", kNav},
    {"partner", kAd},
    {"partners", kAd},
    {"paywall", kSignup},
    {"pinterest", kShare},
    {"player", kGallery},
    {"popular", kRelated},
    {"popup", kPopup},
    {"post", kArticle},
    {"postbody", kBody},
    {"postcontent", kBody},
    {"posted", kMeta},
    {"postmeta", kMeta},
    {"posttext", kBody},
    {"prev", kNav},
    {"print", kShare},
    {"promo", kAd},
    {"promos", kAd},
    {"promoted", kAd},
    {"promotion", kAd},
    {"published", kMeta},
    {"pullquote", kAd},
    {"rail", kSide},
    {"rating", kMeta},
    {"readmore", kRelated},
    {"readnext", kRelated},
    {"recirc", kRelated},
    {"recirculation", kRelated},
    {"recommend", kRelated},
    {"recommendation", kRelated},
    {"recommendations", kRelated},
    {"recommended", kRelated},
    {"related", kRelated},
    {"relatedposts", kRelated},
    {"replies", kComment},
    {"reply", kComment},
    {"respond", kComment},
    {"revcontent", kRelated},
    {"search", kNav},
    {"share", kShare},
    {"shareaholic", kShare},
    {"sharedaddy", kShare},
    {"sharing", kShare},
    {"shoutbox", kComment},
    {"sidebar", kSide},
    {"signin", kSignup},
    {"signup", kSignup},
    {"skip", kNav},
    {"slideshow", kGallery},
    {"social", kShare},
    {"sponsor", kAd},
    {"sponsored", kAd},
    {"sponsors", kAd},
    {"story", kArticle},
    {"storybody", kBody},
    {"storycontent", kBody},
    {"storytext", kBody},
    {"subnav", kNav},
    {"subscribe", kSignup},
    {"subscription", kSignup},
    {"syndication", kFooter},
    {"taboola", kRelated},
    {"tag", kMeta},
    {"tags", kMeta},
    {"taxonomy", kMeta},
    {"teaser", kRelated},
    {"teasers", kRelated},
    {"thread", kComment},
    {"ticker", kRelated},
    {"timestamp", kMeta},
    {"toc", kNav},
    {"toolbar", kShare},
    {"tools", kShare},
    {"topbar", kHeader},
    {"topics", kMeta},
    {"trending", kRelated},
    {"tweet", kShare},
    {"twitter", kShare},
    {"utility", kShare},
    {"viafoura", kComment},
    {"videoplayer", kGallery},
    {"whatsapp", kShare},
    {"widget", kSide},
    {"widgets", kSide},
    {"youmaylike", kRelated},
    {"zergnet", kRelated},
};

uint32_t look_up(std::string_view word) {
  const auto* end = std::end(kWords);
  const auto* it =
      std::lower_bound(kWords, end, word, [](const Word& w, std::string_view v) { return w.word < v; });
  return it != end && it->word == word ? it->hints : 0;
}

bool is_small(char c) {
  return c >= 'a' && c <= 'z';
}
bool is_big(char c) {
  return c >= 'A' && c <= 'Z';
}

}  // namespace

uint32_t hints_of(std::string_view value) {
  constexpr size_t kLongest = 16;
  uint32_t hints = 0;
  // Two words may mean what neither does alone: article body, story text.
  uint32_t before = 0;
  char word[kLongest];
  for (size_t at = 0; at < value.size();) {
    size_t length = 0, from = at;
    for (; at < value.size(); ++at) {
      const char c = value[at];
      if (!is_small(c) && !is_big(c) && !(c >= '0' && c <= '9')) break;
      if (at > from && is_big(c) && is_small(value[at - 1])) break;
      if (length < kLongest) word[length++] = is_big(c) ? static_cast<char>(c + 32) : c;
    }
    const bool joined = at < value.size() && value[at] != ' ';
    if (length > 0) {
      const std::string_view w(word, length);
      const uint32_t found = look_up(w);
      if ((before & kArticle) && (w == "body" || w == "content" || w == "text" || w == "copy"))
        hints |= kBody;
      hints |= found;
      before = joined ? found : 0;
    }
    if (at == from || (at < value.size() && !is_big(value[at]))) ++at;
  }
  return hints;
}

uint32_t role_hints(std::string_view role) {
  if (role == "main") return kMain;
  if (role == "article") return kArticle;
  if (role == "navigation" || role == "menu" || role == "menubar" || role == "search") return kNav;
  if (role == "banner") return kHeader;
  if (role == "contentinfo") return kFooter;
  if (role == "complementary") return kSide;
  if (role == "dialog" || role == "alertdialog" || role == "alert") return kPopup;
  return 0;
}

}  // namespace llmctl::html
