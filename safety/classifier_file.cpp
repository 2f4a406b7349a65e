// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "core/io/safetensors.h"
#include "safety/classifier.h"

namespace llmctl {
namespace {

constexpr const char* kType = "llmctl_hashed_ngrams";
constexpr int kFoldVersion = 1;  // of folding, features and hash: features.h
constexpr size_t kMostCategories = 256;

// Field `name` of a config as a T, checked by `good`, which is a type test of Json.
template <class T>
T field(const Json& object, const char* name, bool (Json::*good)() const noexcept, const std::string& who) {
  check(object.is_object() && object.contains(name) && (object[name].*good)(), Code::input, "[moderate] ",
        who, ": field \"", name, "\" is missing or of the wrong type, train or copy the model again");
  return object[name].get<T>();
}

Calibration read_calibration(const Json& object, const std::string& who) {
  Calibration out;
  out.slope = field<double>(object, "slope", &Json::is_number, who);
  out.offset = field<double>(object, "offset", &Json::is_number, who);
  out.threshold = field<double>(object, "threshold", &Json::is_number, who);
  check(std::isfinite(out.slope) && out.slope > 0 && std::isfinite(out.offset) && out.threshold >= 0 &&
            out.threshold <= 1,
        Code::input, "[moderate] ", who, ": calibration ", object.dump(), " is out of range");
  return out;
}

void read_config(const fs::path& path, TextClassifier& model) {
  const std::string who = path.string();
  const Json config = read_json(path);
  const auto type = field<std::string>(config, "model_type", &Json::is_string, who);
  check(type == kType, Code::unsupported, "[moderate] ", who, ": model_type is \"", type, "\", not \"", kType,
        "\": give a folder written by `moderate train`");
  const auto version = field<int64_t>(config, "fold_version", &Json::is_number_integer, who);
  check(version == kFoldVersion, Code::unsupported, "[moderate] ", who, ": fold_version is ", version,
        ", this build reads ", kFoldVersion, ": train the model again");
  model.shape.buckets = field<int64_t>(config, "buckets", &Json::is_number_integer, who);
  const auto low = field<int64_t>(config, "char_min", &Json::is_number_integer, who);
  const auto high = field<int64_t>(config, "char_max", &Json::is_number_integer, who);
  model.shape.char_min = static_cast<int>(std::clamp<int64_t>(low, 0, 99));
  model.shape.char_max = static_cast<int>(std::clamp<int64_t>(high, 0, 99));
  check_shape(model.shape, who);
  const Json names = field<Json>(config, "categories", &Json::is_array, who);
  const Json calibration = field<Json>(config, "calibration", &Json::is_array, who);
  check(!names.empty() && names.size() <= kMostCategories && names.size() == calibration.size(), Code::input,
        "[moderate] ", who, ": ", names.size(), " categories and ", calibration.size(),
        " calibrations, expected one each and at most ", kMostCategories);
  for (const Json& name : names) {
    check(name.is_string() && !name.get<std::string>().empty(), Code::input, "[moderate] ", who,
          ": a category is not a name");
    const auto text = name.get<std::string>();
    check(std::find(model.categories.begin(), model.categories.end(), text) == model.categories.end(),
          Code::input, "[moderate] ", who, ": category \"", text, "\" is listed twice");
    model.categories.push_back(text);
  }
  for (const Json& c : calibration) model.calibration.push_back(read_calibration(c, who));
}

std::vector<float> read_floats(const SafeTensors& file, const char* name, std::vector<int64_t> shape) {
  const View view = file.at(name);
  bool same = view.dtype == DType::f32 && view.rank == static_cast<int>(shape.size());
  for (size_t i = 0; same && i < shape.size(); ++i) same = view.dim[i] == shape[i];
  check(same, Code::input, "[moderate] ", file.path().string(), ": tensor ", name,
        " is not f32 of the shape that config.json gives, ", shape[0], shape.size() > 1 ? " x " : "",
        shape.size() > 1 ? std::to_string(shape[1]) : "");
  const float* data = view.as<float>();
  std::vector<float> out(data, data + view.size());
  check(std::all_of(out.begin(), out.end(), [](float v) { return std::isfinite(v); }), Code::input,
        "[moderate] ", file.path().string(), ": tensor ", name, " holds values that are not finite");
  return out;
}

}  // namespace

void save_classifier(const TextClassifier& model, const Json& training, const fs::path& folder,
                     bool overwrite) {
  OutputFolder out(folder, overwrite);
  Json calibration = Json::array();
  for (const Calibration& c : model.calibration)
    calibration.push_back({{"slope", c.slope}, {"offset", c.offset}, {"threshold", c.threshold}});
  const Json config = {{"model_type", kType},
                       {"fold_version", kFoldVersion},
                       {"buckets", model.shape.buckets},
                       {"char_min", model.shape.char_min},
                       {"char_max", model.shape.char_max},
                       {"categories", model.categories},
                       {"calibration", std::move(calibration)},
                       {"training", training}};
  write_file(out.path() / "config.json", config.dump(2) + "\n", false);
  const auto n = static_cast<int64_t>(model.categories.size());
  const auto view = [](const std::vector<float>& v, std::initializer_list<int64_t> shape) {
    return View(const_cast<float*>(v.data()), DType::f32, shape);
  };
  save_safetensors(
      out.path() / "model.safetensors",
      {{"weight", view(model.weight, {model.shape.buckets, n})}, {"bias", view(model.bias, {n})}},
      {{"format", "llmctl"}}, false);
  out.commit();
}

TextClassifier load_classifier(const fs::path& folder) {
  check(fs::is_directory(folder), Code::input, "[moderate] ", folder.string(),
        ": no such folder, give one written by `moderate train`");
  TextClassifier model;
  read_config(folder / "config.json", model);
  const SafeTensors file(folder / "model.safetensors");
  const auto n = static_cast<int64_t>(model.categories.size());
  model.weight = read_floats(file, "weight", {model.shape.buckets, n});
  model.bias = read_floats(file, "bias", {n});
  return model;
}

}  // namespace llmctl
