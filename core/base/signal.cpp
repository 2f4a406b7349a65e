// SPDX-License-Identifier: Apache-2.0
#include "core/base/signal.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <string>

#include "kernels/error.h"

namespace llmctl {
namespace {

// A signal handler reaches nothing but statics.
std::atomic<int> signals_seen{0};
static_assert(std::atomic<int>::is_always_lock_free);

void on_signal(int) {
  if (signals_seen.fetch_add(1) > 0) ::_exit(static_cast<int>(Code::interrupted));
}

}  // namespace

void install_signal_handlers() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  action.sa_handler = SIG_IGN;
  ::sigaction(SIGPIPE, &action, nullptr);
}

bool interrupted() {
  return signals_seen.load(std::memory_order_relaxed) > 0;
}

void stop_if_interrupted(const char* who) {
  if (interrupted()) throw Error(Code::interrupted, std::string("[") + who + "] interrupted");
}

}  // namespace llmctl
