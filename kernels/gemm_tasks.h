// SPDX-License-Identifier: Apache-2.0
// How a product's outputs fall into tasks of rows times panels, and tasks into blocks. Cuts depend on
// shape and threads; they never change a bit. Internal to kernels/.
#pragma once

#include "kernels/gemm_tile.h"

namespace llmctl::kn {
namespace KN_NS {

constexpr int64_t kLargeTask = 1 << 21;  // products

struct Window {  // of the product's rows and panels
  int64_t row, rows, panel, panels;
};

// Tasks of up to `most_rows` rows, of nearly equal multiples of `unit`, and up to `most_panels` panels;
// narrower while there are too few tasks to keep the threads busy: two for each, five of large ones.
struct Tasks {
  int64_t height, width, across, count;

  Tasks(int64_t rows, int64_t panels, int64_t k, int64_t most_rows, int64_t most_panels, int64_t unit, int64_t threads) {
    const int64_t down = (rows + most_rows - 1) / most_rows, even = (rows + down - 1) / down;
    height = (even + unit - 1) / unit * unit;
    const auto too_few = [&](int64_t w) {
      const int64_t tasks = down * ((panels + w - 1) / w);
      const bool large = height * w * 16 * k > kLargeTask;
      return threads > 1 && tasks < (large ? 5 : 2) * threads;
    };
    width = most_panels < panels ? most_panels : panels;
    // Whole tiles of three or two panels wherever there are that many.
    if (rows >= kFew)
      while (width > 2 * kTilePanels && too_few(width)) width = (width / 2 + 5) / 6 * 6;
    across = (panels + width - 1) / width;
    count = (rows + height - 1) / height * across;
  }
  Window at(int64_t i, int64_t rows, int64_t panels) const {
    const int64_t row = i / across * height, panel = i % across * width;
    return {row, rows - row < height ? rows - row : height, panel, panels - panel < width ? panels - panel : width};
  }
};

}  // namespace KN_NS
}  // namespace llmctl::kn
