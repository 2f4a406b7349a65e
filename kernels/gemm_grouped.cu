// SPDX-License-Identifier: Apache-2.0
// GroupedGemm on CUDA: the runs come to the host, which launches a product for each. Correct and no more: the
// stream waits. Not yet run on a GPU.
#include "kernels/gemm_grouped.h"
#include "kernels/rows_device.h"

namespace llmctl::kn {

void launch(Cuda cuda, const GroupedGemm& g, const Exec& ex) {
  const int64_t parts = g.starts.size() - 1;
  int32_t starts[kMaxGroups + 1];
  cudaError_t error = cudaMemcpyAsync(starts, g.starts.data, static_cast<size_t>(parts + 1) * 4, cudaMemcpyDeviceToHost,
                                      stream_of(ex));
  if (error == cudaSuccess) error = cudaStreamSynchronize(stream_of(ex));
  check(error == cudaSuccess, Code::device, "[", GroupedGemm::kName, "] ", cudaGetErrorString(error));
  for (int64_t e = 0; e < parts; ++e)
    if (starts[e] < starts[e + 1]) launch(cuda, g.part(e, starts[e], starts[e + 1]), ex);
}

}  // namespace llmctl::kn
