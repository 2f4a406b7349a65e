// SPDX-License-Identifier: Apache-2.0
// What the sub-verbs of `llmctl tokenize` share.
#pragma once

#include "cmd/flags.h"
#include "data/records/documents.h"

namespace llmctl {

void declare_tokenize_train(CLI::App& verb, Common& common);
void declare_tokenize_convert(CLI::App& verb, Common& common);
void add_document_flags(CLI::App& app, DocumentOptions& options);
// Of all inputs together; 0 when it is unknown until they are read.
uint64_t size_of(const std::vector<fs::path>& inputs);

}  // namespace llmctl
