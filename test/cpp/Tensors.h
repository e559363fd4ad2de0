#ifndef MLTools_NanoML_test_Tensors_h
#define MLTools_NanoML_test_Tensors_h

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "MLTools/NanoML/interface/Fold.h"
#include "MLTools/NanoML/interface/Model.h"
#include "MLTools/NanoML/interface/Objects.h"
#include "PhysicsTools/ONNXRuntime/interface/ONNXRuntime.h"

/// The tensors of an event, ready to be run: what any user of the session has to make in some way.
struct Tensors {
  std::vector<std::string> names;
  cms::Ort::FloatArrays values, scores;
  std::vector<std::vector<std::int64_t>> shapes;
  std::vector<std::string> outputs;

  void run(const nanoml::Model& model) {
    scores = model.session().run(names, values, shapes, outputs, shapes.front().front());
  }
};

/// Those of an event for a model of events without a parameter.
inline Tensors tensorsOf(const nanoml::Model& model,
                         const std::vector<nanoml::Column>& columns,
                         const std::optional<nanoml::EventNumber>& number = std::nullopt) {
  const auto column = [&](const std::string& name) -> const nanoml::Column& {
    const auto same = [&](const nanoml::Request& request) { return request.name == name; };
    return columns[std::find_if(model.columns().begin(), model.columns().end(), same) - model.columns().begin()];
  };
  Tensors tensors;
  const auto add = [&](const std::string& name, std::size_t size, std::vector<std::int64_t> shape) {
    tensors.names.push_back(name);
    tensors.values.emplace_back(size);
    tensors.shapes.push_back(std::move(shape));
  };
  for (const nanoml::InputTensor& input : model.metadata().inputs) {
    const auto width = static_cast<std::int64_t>(input.columns.size());
    std::vector<std::uint32_t> rows{0};
    if (!input.order.empty())
      nanoml::sortObjects(column(input.order), input.descending, input.max, rows);
    else if (!input.mask.empty())
      nanoml::firstObjects(column(input.columns.front()).size(), input.max, rows);
    const bool fixed = model.metadata().inside && !input.mask.empty();
    const auto length = static_cast<std::int64_t>(fixed ? input.max : std::max<std::size_t>(rows.size(), 1));
    add(input.tensor,
        length * width,
        input.mask.empty() ? std::vector{length, width} : std::vector{std::int64_t{1}, length, width});
    for (std::int64_t i = 0; i < width; ++i)
      nanoml::copyObjects(column(input.columns[i]), rows, tensors.values.back().data() + i, width);
    if (input.mask.empty())
      continue;
    add(input.mask, length, {1, length});
    std::fill_n(tensors.values.back().begin(), rows.size(), 1.f);
  }
  tensors.outputs.push_back(model.metadata().output);
  if (!model.metadata().inside)
    return tensors;
  add("fold", 1, {1, 1});
  tensors.values.back().front() = number ? nanoml::foldOf(*number, model.metadata().folds) : -1.f;
  const nanoml::Inside& inside = *model.metadata().inside;
  tensors.outputs.insert(tensors.outputs.end(), {"passed", "failed", "cuts"});
  if (!inside.columns.empty())
    tensors.outputs.push_back("columns");
  for (const nanoml::MadeCollection& collection : inside.collections) {
    for (const char* end : {"", "_mask"})
      tensors.outputs.push_back("made_" + collection.name + end);
  }
  for (const nanoml::KnownTensor& known : model.metadata().domain) {
    tensors.outputs.push_back(known.tensor);
    if (!known.mask.empty())
      tensors.outputs.push_back(known.mask);
  }
  return tensors;
}

#endif
