// SPDX-License-Identifier: Apache-2.0
// SIGINT and SIGTERM as a question that long work asks between two steps. A second signal ends the
// process at once with status 130. SIGPIPE is ignored: writes fail with EPIPE instead.
#pragma once

namespace llmctl {

// Called once by main, before any thread starts.
void install_signal_handlers();
// True once SIGINT or SIGTERM came. Any thread.
bool interrupted();
// Throws Error{interrupted} naming `who` when interrupted().
void stop_if_interrupted(const char* who);

}  // namespace llmctl
