// SPDX-License-Identifier: Apache-2.0
#include "core/train/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "core/base/digest.h"
#include "core/train/state_files.h"

namespace llmctl {
namespace {

std::vector<fs::path> files_below(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& e : fs::recursive_directory_iterator(folder))
    if (e.is_regular_file() && e.path().filename() != "DONE") files.push_back(e.path());
  std::sort(files.begin(), files.end());
  return files;
}

// steps in "step-N", or -1.
int64_t step_of(const fs::path& folder) {
  const std::string name = folder.filename().string();
  int64_t n = -1;
  if (!name.starts_with("step-")) return -1;
  const auto [end, ec] = std::from_chars(name.data() + 5, name.data() + name.size(), n);
  return ec == std::errc() && end == name.data() + name.size() ? n : -1;
}

std::vector<fs::path> checkpoints_of(const fs::path& run) {  // newest first
  std::vector<fs::path> found;
  std::error_code ignored;
  for (const auto& e : fs::directory_iterator(run / "checkpoints", ignored))
    if (e.is_directory() && step_of(e.path()) >= 0) found.push_back(e.path());
  std::sort(found.begin(), found.end(), [](const fs::path& a, const fs::path& b) { return step_of(a) > step_of(b); });
  return found;
}

// What builds without a lease left behind when they were killed while saving.
void remove_unfinished(const fs::path& run) {
  std::vector<fs::path> left;
  for (const auto& e : fs::directory_iterator(run / "checkpoints"))
    if (const std::string name = e.path().filename().string(); name.starts_with(".step-") && name.ends_with(".tmp"))
      left.push_back(e.path());
  std::error_code ignored;  // space is all they cost
  for (const fs::path& path : left) fs::remove_all(path, ignored);
}

// What is wrong with a checkpoint, or "".
std::string damage_of(const fs::path& checkpoint) {
  try {
    if (!fs::exists(checkpoint / "DONE")) return "it has no DONE: the save did not finish";
    const Json done = read_json(checkpoint / "DONE");
    check(done.is_object() && done.contains("files") && done["files"].is_object(), Code::input, "DONE is malformed");
    const auto names = [&](const std::string& start) {
      for (const auto& [name, digest] : done["files"].items())
        if (name.starts_with(start)) return true;
      return false;
    };
    for (const char* needed : {"state/optimizer", "state/state.json"})
      if (!names(needed)) return std::string("DONE does not name ") + needed;
    for (const auto& [name, digest] : done["files"].items()) {
      if (!fs::exists(checkpoint / name)) return name + " is missing";
      if (digest != digest_of_file(checkpoint / name).hex()) return name + " does not have the digest it was saved with";
    }
  } catch (const std::exception& e) {
    return error_of(e).what();
  }
  return "";
}

void save_state_json(const fs::path& file, const CheckpointState& state) {
  const Json json = {{"step", state.step},
                     {"tokens", state.tokens},
                     {"data_digest", state.data_digest},
                     {"weights_digest", state.weights_digest},
                     {"numerics", 1}};
  write_file(file, json.dump(2) + "\n", true);
}

// {file: digest} below `folder`, of which `known` have been read before.
Json digests_of(const fs::path& folder, const Json& known) {
  Json out = known;
  for (const fs::path& f : files_below(folder))
    if (const std::string name = fs::relative(f, folder).generic_string(); !out.contains(name)) out[name] = digest_of_file(f).hex();
  return out;
}

// Files that cannot be made because the lease is gone are not the file system's fault.
void held(RunLease* lease, const std::function<void()>& work) {
  try {
    work();
  } catch (const std::exception&) {
    if (lease) lease->check_held();
    throw;
  }
}

// What the first rank does alone, `work`, after which all know `folder`. Any rank's error is everyone's.
void first_rank(Comm* comm, CommLabel label, const std::function<void()>& work) {
  if (!comm) return work();
  together(*comm, label, [&] {
    if (comm->rank() == 0) work();
  });
}

}  // namespace

fs::path checkpoint_folder(const fs::path& run, int64_t step) { return run / "checkpoints" / fmt::format("step-{}", step); }

fs::path save_checkpoint(const fs::path& run, const Model& model, const CheckpointState& state, int64_t keep,
                         const std::function<void(const fs::path&)>& extra, RunLease* lease, const BesideTraining* beside) {
  const Sharding& sharding = model.parameters().sharding();
  Comm* comm = beside ? beside->comm : sharding.shared() ? sharding.comm : nullptr;
  const kn::Exec& exec = beside ? beside->exec : model.exec();
  const CommLabel label("checkpoint", state.step);
  const fs::path final = checkpoint_folder(run, state.step);
  const std::string name = final.filename().string();
  // The last to read the weights here says what is written.
  const bool first = !comm || comm->rank() == 0, model_from_memory = first && !sharding.states();
  std::function<void(size_t)> tell;
  if (beside) tell = [beside](size_t count) { beside->gate->release(count); };
  std::unique_ptr<RunLease> own;
  fs::path folder;
  first_rank(comm, label, [&] {
    if (!lease) lease = (own = std::make_unique<RunLease>(run, LeaseOptions{.beat = 0})).get();
    lease->check_held();
    fs::create_directories(run / "checkpoints");
    folder = lease->staging() / name;
    fs::remove_all(folder);  // of a save that failed
    for (const char* below : {"", "model", "state"}) fs::create_directory(below[0] ? folder / below : folder);
  });
  if (comm) folder = all_gather_text(*comm, folder.string(), label).front();
  std::string written;  // name and digest of this rank's file
  const auto save_mine = [&] {
    held(lease, [&] {
      const fs::path file = save_state_file(folder / "state", model.parameters(), exec, model_from_memory ? nullptr : tell);
      written = Json{{fs::relative(file, folder).generic_string(), digest_of_file(file).hex()}}.dump();
    });
  };
  comm ? together(*comm, label, save_mine) : save_mine();
  Json known = Json::object();
  for (const std::string& text : comm ? all_gather_text(*comm, written, label) : std::vector{written})
    known.update(parse_json(text, "[checkpoint]"));
  const auto complete = [&] {
    Model::MasterSource from_files;
    std::optional<StateFiles> files;
    if (sharding.states()) {
      files.emplace(folder / "state");
      from_files = [&](const Param& p, std::vector<float>& memory) { return files->master(p, memory); };
    }
    model.save(folder / "model", from_files, exec, model_from_memory ? tell : nullptr);
    if (beside) beside->gate->open();
    if (extra) extra(folder / "model");
    save_state_json(folder / "state" / "state.json", state);
    const Json done = {{"step", state.step}, {"files", digests_of(folder, known)}};
    write_file(folder / "DONE", done.dump(2) + "\n", true);  // the last file: the rename adds it with the rest
    flush_tree(folder);
    lease->publish(name, final);
    remove_unfinished(run);
    std::vector<fs::path> all = checkpoints_of(run);  // newer ones are damaged: this run would have begun there
    std::erase_if(all, [&](const fs::path& c) { return step_of(c) > state.step; });
    for (size_t i = static_cast<size_t>(keep); keep > 0 && i < all.size(); ++i) lease->remove(all[i]);
  };
  if (beside && !first) beside->gate->open();
  first_rank(comm, label, [&] { held(lease, complete); });
  return final;
}

int64_t newest_done(const fs::path& run) {
  for (const fs::path& c : checkpoints_of(run))
    if (fs::exists(c / "DONE")) return step_of(c);
  return -1;
}

std::optional<fs::path> latest_checkpoint(const fs::path& run, int64_t at_most,
                                          const std::function<void(const std::string&)>& warn) {
  for (const fs::path& c : checkpoints_of(run)) {
    if (step_of(c) > at_most) continue;
    const std::string damage = damage_of(c);
    if (damage.empty()) return c;
    if (warn) warn(fmt::format("checkpoint {} is skipped: {}", c.string(), damage));
  }
  return std::nullopt;
}

CheckpointState load_checkpoint(const fs::path& checkpoint, Model& model, const kn::Exec& exec) {
  const fs::path folder = checkpoint / "state";
  const auto read = [&] { StateFiles(folder).read(model.parameters(), exec); };
  const Sharding& sharding = model.parameters().sharding();
  sharding.shared() ? together(*sharding.comm, "checkpoint", read) : read();
  model.parameters().refresh(exec);
  kn::wait(exec);
  const fs::path path = folder / "state.json";
  const Json json = read_json(path);
  auto has = [&](const char* key, auto is) { return json.is_object() && json.contains(key) && (json[key].*is)(); };
  check(has("step", &Json::is_number_unsigned) && has("tokens", &Json::is_number_unsigned) &&
            has("data_digest", &Json::is_string) && has("weights_digest", &Json::is_string),
        Code::input, "[checkpoint] ", path.string(), ": needs step, tokens, data_digest and weights_digest");
  CheckpointState s;
  s.step = json["step"].get<int64_t>();
  s.tokens = json["tokens"].get<int64_t>();
  s.data_digest = json["data_digest"].get<std::string>();
  s.weights_digest = json["weights_digest"].get<std::string>();
  return s;
}

}  // namespace llmctl
