// SPDX-License-Identifier: Apache-2.0
#include "data/text/code_point_class.h"

#include <algorithm>
#include <memory>

#include "kernels/error.h"

namespace llmctl {

namespace {

// Runs of classes over U+0000..U+10FFFF: a letter ('a' + CharClass) and the length in base 36, none for
// 1; z with N stands for N times upper, lower.
// clang-format off
constexpr const char kRuns[] =
    "a9iki2kaIjg3hg6hg4fAg2h3g2bQg3hghcQghgha6iaQigh5gh2dghah4f2hcg2hfdgf3gbNhb7cOhc8zRbc2z7bc2zNb2cb"
    "cbc3b2cbcb2cb3c2b4cb2cb3c3b2cb2cz2b2cbc2bcb2cb3cbcb2c2dbc3d4b2cb2cb2cz7bc2z8bc2b2cbcb3czSbc7b2cb"
    "2c2bcb4cz3bc1XdcRdIh4dChEd5h7dhdhHe34z2dhbca2dc3gba4h2bgb3abab2cbHab9cZbc2b3c3zBbc5bchbcb2c2b1Fc"
    "1CzHhe7zRb2cz5bc2z1Cab12a2dg6c15g2a2h3ae19gege2ge2gea8dRa4d4g2aHh3g2hg2h2eBgag3d17eLfAg4d2ed2Rgd"
    "e7ahe6d2e2he4d2fAd3h2dgEa2dedUeRa2d2HeBdaEfAdXe9d2hg3da2eh2dMe4de9de3de5a2gFadPe3a2gadBa5dOhd6a8"
    "e9d16eOaeXd1Ie3deIde7dAe2g2fAgdGe3ad8a2d2a2dMad7ada3d4a2ede7a2e2a2e3da8ea4d2ad3e2a2fAd2h2f6h2dge"
    "a2e3ad6a4d2a2dMad7ad2ad2ad2a2eae5a4e2a2e3a3ea7d4ada7fAe2d3egaAe3ad9ad3adMad7ad2ad5a2ede8ae3ae3a2"
    "daFd2e2a2fAgha7de6ae3ad8a2d2a2dMad7ad2ad5a2ede7a2e2a2e3a7e3a4d2ad3e2a2fAhdf6aAedad6a3d3ad4a3d2ad"
    "ad2a3d2a3d3a3dCa4e5a3e3ae4a2da6eaEfDh8a5e5d8ad3adNadGa2ede7ae3ae4a7e2ad3a2da2d2e2a2fAa7gf7hde3gd"
    "8ad3adNadAad5a2ede7ae3ae4a7e2a6d2ad2e2a2fAad2eaCe4d9ad3ad15e2de7ae3ae4dha4d3ef7d3e2a2fJhd6ae3adI"
    "a3dOad9ada2d7a3ea4e6aeae8a6fAa2e2gaCd1Ced2e7a4hd7e8gfAg2a11d2adad5adOadadAed2e9da2d5adae7afAa2d4"
    "aWdh3gFhgh3e2h6fKheheheg4e2d8ad10a4eKge2d5eBae10ah8eh6ah2g5h4g2a11d17eKdfAg6d6e4d4e3de3d2e7d3e4d"
    "DeCdefAe4h2b12aba5ba2c17gdc3d95ad4a2d7adad4a2d15ad4a2dXad4a2d7adad4a2dFad1Lad4a2d1Va2e3g9fKa3dGh"
    "Aa6b2Ea2c6a2gdH8hgdHidQg2a3d23g3f3d8a7dIe4a9dJe3g2a9dIe2aCdDad3ae2aCd1GeWg3dg3hdea2fAa6fAa6gBe3a"
    "efAa6d2Ha7d5e2dYeda5d1YaAdVaeCa4eCa4ha3g2fAdUa2d5aBd18a4dQa6fBa3hYdNe5a2g2d1HeAaeTa2efAa6fAa6g7d"
    "g6a2eVa1De5d1BeHd8ag2fAg7hAe9h9g3e3dUeDd2fAd18eEa8g4d10eKa3g5fAa3d3fAd10g2c9bca5b17a2b3g8a8e3geL"
    "d4ed6ed2e3da5c18d1RcDdcYd11e1Sz22bc9z1Cbc9b8c6a2b6a2c8b8c8b8c6a2b6a2c8ababababc8b8cEa2c8b8c8b8c8"
    "b8c5ac2b5hch3c3ac2b5h3c4a2c2b4ah3c8b5h3a2c3ac2b5h2aiBa5gOi2a5igKhgDhgCiaGfda2f6h3g2dfAh3g2adDa3h"
    "XaFeXaFh2bh4bh2cb3c2b3chbh3b5h6bhbhbhb4hcb4cd4ch2c2b2h5bc4h4chf1Fbcf5h2a4hAGg4hTg2h73aMhBaLf1Oh2"
    "6fMhH4gEfUh1Dg2hVgAhB7gMh1Rg4hWg2hAEa2hWah2Xb1Cc1Cbcb3c2z3b4cbc2bc6d2b3cz1Cbc2h6z2e3bca5g4fg2c12"
    "aca5ca2d1Ka7dgaEedNa9d7ad7ad7ad7ad7ad7ad7ad7aeWg1BdgWh2gCaYhQah2HaCh5YaQhGig3hd2fgAh2gChf9e6gd5h"
    "2f3d2gh2ad2Ea2e2h2d3gd2Igd4a5d17ad2Mah2f4hAdWh12a9hdGhVafAhUf8hfFhWfAh13fFh8Wd534h1SdH3Ha3h1Ja9d"
    "1Ag2d7Hg3dGfAd2aKzNde4geAgdzEd2e2d1YfAe2g6a8hNd9h2z6bc3zVdc8z2b2cz4dh2z2dbcbc3zAb5cb5cz7b4cbcb2c"
    "a2bcacacz3baLd3bcd3cd7ed3ed4edNe5h4ea3f6h4a6d1Gg4a8e2d1EeIa8g2fAa6eId6g3dgd2efAdSe8g2dNeDaBgdTa3"
    "e4d1BeEgDadfAa4g2d5edAfAd5ad15eEa9d3ed8e2a2fAa2g4dNh3de3d1Eede3d2e2d5e2dedaOd3g2dBe5g2d3e2aAd6a2"
    "d6a2d6a9d7ad7ac17hd4c9dh2a4c28dZe8ge2a2fAa6d8MCaCdNa4d1Da6ISdA6a2d2Ya12c7aCc5a5dedAhdDad5adad2ad"
    "2ad30hHaGdA3g2hGd1Sa2d1Ia7haWdCh4eGgAa6eGgZagEhgh3aghg2a4d5ad3Ra4g3hg6hg4fAg2h3g2bQg3hghcQghghg7"
    "d2Ha3d6a2d6a2d6a2d3a3h7ah7aDh2a2dCadQadJad2adFa2dEaYd3Fa5g3a4f19a3h9f1LhHf2h3ahDa3ha1Bh19ea3MdTa"
    "3d1DaFefRa4dWf4a9dKfd8fa5d12e5a5dUagd10a4d8gf5a16b14c14d26a2fAa6b10a4c10a4d14a8d1GaBgbBabFab7ab2"
    "acBacFac7ac2a3d1GaCd8Na9dMaAd8aOd6ad16ad9a1Xd6a2dad18ad2a3da2dNagf8dNh2f7dVa8f9a1CdJad2a5f5dMf6a"
    "3gdQa5ga1Sd1Ka4f2d2fGa2f1Ade3ae2a5e4d4ad3adTa2e3a4ef9a7g9a7dTf2gdTf3aWd8hdSe2a4f5g7a9d1Ia3g7dMa2"
    "f8dJa5f8dIa7g4aCf7a28d21a1Jb1FaDc1Fa7f6d10e4a8fAa6fAd6bMa3e5gdcMa8h2a5SfVad16ae2ga2d2aGd3a1Je4dT"
    "fAda8dMeBf4g5aMdIe4g4a12dLf7aKdNa9e3d1HeFg7a4fUed2e2da9e4d19eBg2ag4eaDdPa7fAa6e3d10eEafAg4de2da8"
    "dZeg2da9e3d1CeEd4g4e4ge2fAdgdg3afKaBdIadPeCg6ed2ea1Qd7adad4adFadAga6d1BeCa5fAa6e4ad8a2d2a2dMad7a"
    "d2ad5ae2de7a2e2a2e3a2da6ea5d5e2a2e7a3e5aBdAada2dad12ade9aea2eae4ae5dedg2ag2a8e2aTd1HeId4g5fAg2ag"
    "ed3aUd1CeKd2gda8fAa4Md1Be7a2e9gNd4e2aYd1CeHg3daBfAa6gDaJd17eDdga6fAa6fKaSdRa2eFa4fCg3hd7a55d18eF"
    "ga2SbWcWfJaCd8a2da2d8ad2adOe6ae2a2e4dede2g3a9fAa1Yd8a2d13e7a2e7dgdeaRdeAd14e7de4g8ea8deBd1AeGg3d"
    "g5aDd21a7gAa52dXgaEfAa6d9ad11e8ae8dg5aAfTa3g2dUa2eMaeEa21d7ad2ad12e6a3eae2ae7dea8fAa6d6ad2adWe5a"
    "e2ae5da7fAa8MdJe4g2a7e2dedDadYe7a3e5gDfAea2DdaFfLhTaDgdPMa2Uf33ag5aBd5Ga218d2Pg2aDdTSaGed6eFaAd3"
    "2Za5dG7a5A1dUeIfAa1C6dFTa7dVafAa4g2d27afAa6dUa2e5gaAd1Ce7g5h4d4ghaAfAaf7adLa5dJaC0d19g3fAa5IbWcW"
    "fNg4a2Td23a4ede1Ja7e4dDa1Sd2gdeaBe2aEd4QGa8dYEa15dAa6W7d4ad7ad2ad83aFdaTd3a2daEd4a8dB0a1S4d2Za5d"
    "Da3d9a7dAa2he2ga31Ch6OfAa6hC4a24e1Aa2eNa9h38a1Oh6UaAh13a2h1Oe5h3e6a8e8h2e7hUe4h1PaLh1Ue3ha3EfKaC"
    "fKaCh2Fa9fPa3RbQcQbQc7acIbQcQbab2a2ba2b2a2b4ab8c4acac7acBbQcQb2ab4a2b8ab7acQb2ab4ab5aba3b7acQbQc"
    "QbQcQbQcQbQcQbQcQbQcSa2bPhcPhc6bPhcPhc6bPhcPhc6bPhcPhc6bPhcPhc6bca2f1EhE8e1Jh4e1Eh8ehEeh2g5aFe5a"
    "eFaUOcAdcKa6c6a5Xe7aeHa2e7ae2ae5a5d1QaXea34d19a3e7d7a2fAa4dha8WdUeaHd18e4fAa5haCWdSe4fAa5YdUe2df"
    "Aa4gaDCd7ad4ad2adFad5Ha2f9e7a15bYcYe7da4fAa4g2aLTf1Nhf3hf4a24f19hfFa5Ed4adRad2ada2dadAad4adada6d"
    "a4dadadad3ad2ada2dadadadadad2ada2d4ad7ad4ad4adadAadHa5d3ad5adHa1Gh2a7Ih18a4h2SaChFa2hFahFah11aAf"
    "Dh4Ha1KhTaDh18a4h9a7h2aEh6a4AhRCa4hHa3hDa3h3Ba4h2Na6hCa4haFhCa4h1Ka8hAa6h14a8hUa2hCa4h2a1Qh9GaCh"
    "Ea2hDa3hAa5h1Ka7hFa2hBa6h9a7h43ah2KfAaSMdWYOaWd37Ea6d66a2d4G2aEd5RLaFdHAa1WIdF2a15Ud3T7a5d38GaF9"
    "E8e6Oa47BK";
// clang-format on

class Builder {
 public:
  explicit Builder(CharClassTable& table) : table_(table) {}
  void put(CharClass cls, uint32_t n) {
    for (; n > 0; --n) {
      block_[at_++ & 63] = cls;
      if ((at_ & 63) == 0) close();
    }
  }
  uint32_t at() const { return at_; }

 private:
  void close() {
    size_t k = at_ > 64 ? table_.block[(at_ >> 6) - 2] : 0;  // most are like the one before
    if (blocks_ == 0 || !std::equal(block_.begin(), block_.end(), table_.classes.begin() + k * 64)) k = 0;
    while (k < blocks_ && !std::equal(block_.begin(), block_.end(), table_.classes.begin() + k * 64)) ++k;
    check(k < 1024, Code::bug, "[unicode] more than 1024 kinds of blocks");
    if (k == blocks_) std::copy(block_.begin(), block_.end(), table_.classes.begin() + 64 * blocks_++);
    table_.block[(at_ >> 6) - 1] = static_cast<uint16_t>(k);
  }
  CharClassTable& table_;
  std::array<CharClass, 64> block_{};
  size_t blocks_ = 0;
  uint32_t at_ = 0;
};

uint32_t length(const char*& p) {
  uint32_t n = 0;
  for (; (*p >= '0' && *p <= '9') || (*p >= 'A' && *p <= 'Z'); ++p)
    n = n * 36 + static_cast<uint32_t>(*p <= '9' ? *p - '0' : *p - 'A' + 10);
  return n == 0 ? 1 : n;
}

std::unique_ptr<const CharClassTable> build() {
  auto table = std::make_unique<CharClassTable>();
  Builder builder(*table);
  for (const char* p = kRuns; *p;) {
    const char kind = *p++;
    uint32_t n = length(p);
    if (kind != 'z') builder.put(static_cast<CharClass>(kind - 'a'), n);
    for (; kind == 'z' && n > 0; --n) {
      builder.put(CharClass::upper, 1);
      builder.put(CharClass::lower, 1);
    }
  }
  check(builder.at() == 0x110000, Code::bug, "[unicode] classes of ", builder.at(), " code points");
  return table;
}

}  // namespace

const CharClassTable& char_classes() {
  static const std::unique_ptr<const CharClassTable> table = build();
  return *table;
}

}  // namespace llmctl
