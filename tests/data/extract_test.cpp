// SPDX-License-Identifier: Apache-2.0
#include "data/web/extract.h"

#include <chrono>
#include <cstdlib>

#include "data/packed/counter_random.h"
#include "data/text/utf8.h"
#include "data/web/html_scan.h"
#include "samples.h"

using namespace llmctl;

namespace {

const std::string kProse =
    "The harbour was quiet that morning, and the boats lay low in the water, heavy with the night's catch. ";

std::string times(const std::string& s, int n) {
  std::string out;
  for (int i = 0; i < n; ++i) out += s;
  return out;
}

std::string article(const std::string& inside) {
  return "<!DOCTYPE html><html lang=en><head><title>The &amp; harbour</title>"
         "<meta property='article:published_time' content='2024-01-02'><link rel=license "
         "href='http://l.example/by'>"
         "<script>var x = '<p>no</p>';</script></head><body><nav><a href=/>Home</a> <a href=/b>News "
         "today</a></nav>"
         "<div class=content><article><h1>Quiet harbour</h1><p>" +
         kProse + "</p>" + inside + "<p>" + kProse + kProse +
         "</p></article></div><div id=comments><p>First! " + kProse +
         "</p></div><div class='related-posts'><p>" + kProse +
         "Elsewhere.</p></div><footer><p>All rights reserved by the harbour master, who wrote this "
         "page.</p></footer>"
         "</body></html>";
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("the article stays, what is around it goes", "[web]") {
  const Extracted e = extract_main_text(article(""));
  CHECK(e.refused == nullptr);
  CHECK(e.title == "The & harbour");
  CHECK(e.language == "en");
  CHECK(e.date == "2024-01-02");
  CHECK(e.licence == "http://l.example/by");
  CHECK(has(e.text, "# Quiet harbour\n\nThe harbour was quiet"));
  for (const char* gone : {"Home", "First!", "Elsewhere", "All rights", "no"}) {
    INFO(gone);
    CHECK(!has(e.text, std::string(gone) + (std::string(gone) == "no" ? "</p>" : "")));
  }
  const Extracted all = extract_main_text(article(""), {.keep_all = true});
  for (const char* kept : {"Home", "First!", "Elsewhere", "All rights"}) CHECK(has(all.text, kept));
}

TEST_CASE("tables, code, lists and quotes are Markdown", "[web]") {
  const auto text = [](const std::string& inside) { return extract_main_text(article(inside)).text; };
  CHECK(has(text("<table><tr><th>a<th>b<tr><td>1<td>x|y</table>"),
            "\n\n| a | b |\n|---|---|\n| 1 | x\\|y |\n\n"));
  CHECK(has(text("<pre><code class='language-cpp'>int x;\n  if (x &lt; 1)\n\n    y();</code></pre>"),
            "\n\n```cpp\nint x;\n  if (x < 1)\n\n    y();\n```\n\n"));
  CHECK(has(text("<ul><li>one<li>two<ol><li>deep</ol></ul>"), "\n\n- one\n- two\n  1. deep\n\n"));
  CHECK(has(text("<blockquote><p>Said one.<p>And two.</blockquote>"), "\n\n> Said one.\n>\n> And two.\n\n"));
  CHECK(has(text("<p>Call <code>run()</code> now, <b>please</b>.</p>"), "\n\nCall `run()` now, please.\n\n"));
  CHECK(has(text("<p>one<br>two</p>"), "one\ntwo"));
  const Extracted bare = extract_main_text(article("<h2>Part</h2><ul><li>one</ul>"), {.markdown = false});
  CHECK(has(bare.text, "Part"));
  CHECK(!has(bare.text, "#"));
  CHECK(!has(bare.text, "- one"));
}

TEST_CASE("a page deep beyond reason is flattened, not climbed", "[web]") {  // trap 20
  struct Case {
    const char* open;
    int times;
  };
  for (const Case c : {Case{"<div>", 200000},
                       {"<b><div></b>", 100000},
                       {"<table><tr><td>", 100000},
                       {"<ul><li>", 100000},
                       {"<a href=q><div>x</a>", 50000},
                       {"<span class=ad>", 200000},
                       {"<svg><g>", 100000},
                       {"<dl><dd><dt>", 100000},
                       {"<p><code>", 100000},
                       {"<x-y class=comment>", 100000},
                       {"<template>", 100000},
                       {"<button>", 200000}}) {
    INFO(c.open);
    const auto start = std::chrono::steady_clock::now();
    const Extracted e = extract_main_text(times(c.open, c.times) + kProse, {.keep_all = true});
    // generous: quadratic work on these takes minutes
    CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(20));
    if (std::string(c.open) == "<div>") CHECK(e.text + " " == kProse);
    CHECK((e.refused == nullptr || std::string(e.refused).find("too_") == 0));
  }
}

TEST_CASE("limits refuse by name", "[web]") {  // trap 20
  const auto refused = [](const std::string& html, const ExtractOptions& options = {}) {
    const Extracted e = extract_main_text(html, options);
    return std::string(e.refused ? e.refused : "");
  };
  CHECK(refused(std::string(1001, 'x'), {.max_bytes = 1000}) == "too_large");
  CHECK(refused(times("<p>x", 2000), {.max_nodes = 1000}) == "too_many_nodes");
  CHECK(refused("<p " + times("a ", 5000) + ">x") == "too_many_attributes");
  const Extracted wide = extract_main_text(
      article("<table><tr><td colspan=9007199254740992>a<td>b<tr><td colspan=900>c<td>d</table>"));
  CHECK(wide.refused == nullptr);
  CHECK(wide.text.size() < 2000);
  const std::string cells = "<table>" + times("<tr><td>1<td>2", 200) + "</table>";
  CHECK(has(extract_main_text(article(cells)).text, "| 1 | 2 |"));
  CHECK(!has(extract_main_text(article(cells), {.max_cells = 100}).text, "| 1 |"));
}

TEST_CASE("the scanner reads tags as browsers do", "[web]") {
  const auto lean = [](const std::string& html) { return html::scan(html, {}).lean; };
  CHECK(lean("a < b <c") == "a &lt; b ");
  CHECK(lean("<script><!-- <script> </script> --></script>x") == "x");
  CHECK(lean("<!--> x --> y") == "x --> y");
  CHECK(lean("<!-- a --!> b --> c") == "b --> c");
  CHECK(lean("<P CLASS='nav'\n>x</P >") == "<p h=8>x</p>");
  CHECK(lean("a&lt;<b>i</b>") == "a&lt;i");
  CHECK(lean("<svg><title>no</title></svg>yes") == "yes");
  CHECK(lean("<svg>never closed") == "never closed");
  CHECK(lean("<textarea><p>no</textarea>yes<div hidden>z") == "yes<div h=1000>z");
  CHECK(html::plain(" A &#8217; &#x41;&bogus; ") == "A \xE2\x80\x99 A&bogus;");
}

TEST_CASE("any bytes are a page", "[web]") {
  for (const std::string& html :
       {std::string(), std::string("\0<\0p>\0", 6), std::string("\xFF\xFE<p>\xC3"), std::string("<"),
        std::string("</"), std::string("<a"), std::string("<a href="), std::string("<!"), std::string("<!--"),
        std::string("&#xFFFFFFFF;&#0;"), std::string("<table></p><tr>x")})
    CHECK(extract_main_text(html, {.keep_all = true}).refused == nullptr);
}

TEST_CASE("mutated pages never crash", "[.fuzz]") {
  const char* wanted = std::getenv("LLMCTL_FUZZ_SECONDS");
  const auto seconds = std::chrono::duration<double>(wanted ? std::atof(wanted) : 20.0);
  const auto start = std::chrono::steady_clock::now();
  const char* parts[] = {"<div>",
                         "</div>",
                         "<p>",
                         "<table>",
                         "<tr>",
                         "<td>",
                         "</table>",
                         "<a href=x>",
                         "</a>",
                         "<b>",
                         "<code>",
                         "</code>",
                         "<pre>",
                         "</pre>",
                         "<svg>",
                         "</svg>",
                         "<math>",
                         "<select>",
                         "<form>",
                         "<ul><li>",
                         "</ul>",
                         "<!--",
                         "-->",
                         "<script>",
                         "</script>",
                         "<template>",
                         "<h1>",
                         "</h1>",
                         "<span class=share>",
                         "</span>",
                         "<body>",
                         "</html>",
                         "<frameset>",
                         "<blockquote>",
                         "<br>",
                         "words, and more words. ",
                         "\"",
                         "'",
                         "<",
                         "&amp",
                         "\xC3",
                         "<caption>",
                         "<dd>",
                         "<button>",
                         "<article>",
                         "</article>",
                         "<plaintext>",
                         "<noscript>",
                         "<title>",
                         "<td colspan=65>"};
  const std::string seed = article("<table><tr><td>1<td>2</table><pre>x</pre>");
  uint64_t rounds = 0;
  for (; std::chrono::steady_clock::now() - start < seconds; ++rounds) {
    CounterRandom random(3, rounds);
    std::string html = random.below(2) ? seed : "";
    for (uint64_t n = random.below(200); n > 0; --n) {
      const std::string part = parts[random.below(std::size(parts))];
      html.insert(random.below(html.size() + 1),
                  random.below(8) ? part : times(part, static_cast<int>(random.below(700))));
    }
    for (uint64_t n = random.below(4); n > 0 && !html.empty(); --n)
      html[random.below(html.size())] = static_cast<char>(random.bits());
    const Extracted e = extract_main_text(html, {.keep_all = random.below(2) == 1});
    const bool named = e.refused == nullptr || std::string(e.refused).find("too_") == 0;
    if (!named) FAIL_CHECK("round " << rounds);
    const Extracted again = extract_main_text(html);
    const Extracted once = extract_main_text(html);
    if (again.text != once.text) FAIL_CHECK("round " << rounds << ": two answers");
  }
  WARN(rounds << " mutated pages");
  CHECK(rounds > 10);
}
