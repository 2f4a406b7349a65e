// SPDX-License-Identifier: Apache-2.0
// The devices that come with the program, in the form of a user's file (hardware.h).
#pragma once

namespace llmctl {

constexpr const char* kHardwareTable = R"json(
// Peak, memory and link: NVIDIA's and AMD's data sheets; tflops are dense bf16, without sparsity. Network: one port per
// device of the maker's reference system (DGX A100: HDR, 200 Gb/s; DGX H100, H200, B200: NDR, 400 Gb/s). Watts: the
// reference system's highest draw over its devices (DGX A100 6.5 kW, H100 and H200 10.2 kW, B200 14.3 kW), a card's
// board power plus a third elsewhere. Price: dollars an hour of rented time. They move: put your own in a file.
{
  "devices": {
    // llm.c discussion 481: 94 minutes on eight for about $20. gemm, attention: tests/bench/planner_fit.py.
    "a100": {"tflops": 312, "memory_gb": 80, "memory_gbps": 2039, "link_gbps": 300, "network_gbps": 25, "node": 8,
             "watts": 812, "price": 1.6, "gemm": 0.9028, "attention": 0.2642},
    "a100-40gb": {"tflops": 312, "memory_gb": 40, "memory_gbps": 1555, "link_gbps": 300, "network_gbps": 25, "node": 8,
                  "watts": 812, "price": 1.3, "gemm": 0.9028, "attention": 0.2642},
    // nanochat: 8xH100 at $24 an hour.
    "h100": {"tflops": 989, "memory_gb": 80, "memory_gbps": 3350, "link_gbps": 450, "network_gbps": 50, "node": 8,
             "watts": 1275, "price": 3.0, "gemm": 0.7504, "attention": 0.166},
    // Below: no price of ours; guesses from the H100's by peak and memory.
    "h200": {"tflops": 989, "memory_gb": 141, "memory_gbps": 4800, "link_gbps": 450, "network_gbps": 50, "node": 8,
             "watts": 1275, "price": 3.5},
    "b200": {"tflops": 2250, "memory_gb": 180, "memory_gbps": 8000, "link_gbps": 900, "network_gbps": 50, "node": 8,
             "watts": 1788, "price": 5.5},
    // GB200 NVL72: 72 devices on one NVLink.
    "gb200": {"tflops": 2450, "memory_gb": 186, "memory_gbps": 8000, "link_gbps": 900, "network_gbps": 50, "node": 72,
              "watts": 1833, "price": 6.0},
    "mi300x": {"tflops": 1307, "memory_gb": 192, "memory_gbps": 5300, "link_gbps": 448, "network_gbps": 50, "node": 8,
               "watts": 1000, "price": 2.5},
    // No NVLink: PCIe 4 x16.
    "l40s": {"tflops": 362, "memory_gb": 48, "memory_gbps": 864, "link_gbps": 32, "network_gbps": 12.5, "node": 8,
             "watts": 470, "price": 1.0},
    "rtx4090": {"tflops": 165, "memory_gb": 24, "memory_gbps": 1008, "link_gbps": 32, "network_gbps": 1.25, "node": 8,
                "watts": 600, "price": 0.4}
  }
}
)json";

}  // namespace llmctl
