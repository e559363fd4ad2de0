#include "MLTools/NanoML/interface/Scorer.h"

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <utility>

#include "MLTools/NanoML/interface/Error.h"
#include "MLTools/NanoML/interface/Objects.h"
#include "PhysicsTools/ONNXRuntime/interface/ONNXRuntime.h"

namespace nanoml {

  namespace {
    constexpr std::size_t kUsualObjects = 1024;  // of a collection; only particles, as those of jets, are more

    template <typename List>
    std::int64_t sizeOf(const List& list) {
      return static_cast<std::int64_t>(list.size());
    }

    std::vector<float> parametersOf(const Model& model, std::vector<float> chosen) {
      const auto& parameter = model.metadata().parameter;
      if (!parameter && !chosen.empty())
        throw Error("model " + model.metadata().name + " has no parameter: leave out its values.");
      if (!std::all_of(chosen.begin(), chosen.end(), [](float value) { return std::isfinite(value); }))
        throw Error("a value of parameter " + parameter->column + " of model " + model.metadata().name +
                    " is not finite.");
      for (const float value : chosen) {
        const std::vector<float>& known = parameter->values;
        if (parameter->only && std::find(known.begin(), known.end(), value) == known.end())
          throw Error("parameter " + parameter->column + " of model " + model.metadata().name + ": " +
                      std::to_string(value) + " was not trained at, and trees do not interpolate.");
      }
      return parameter && chosen.empty() ? parameter->values : std::move(chosen);
    }
  }  // namespace

  Scorer::Scorer(const Model& model, std::vector<float> parameters)
      : model_(&model), parameters_(parametersOf(model, std::move(parameters))) {
    const Metadata& metadata = model.metadata();
    const auto place = [&](const std::string& name) -> std::size_t {
      const auto same = [&](const Request& request) { return request.name == name; };
      return std::find_if(model.columns().begin(), model.columns().end(), same) - model.columns().begin();
    };
    for (const InputTensor& input : metadata.inputs) {
      Plan plan{&input, {}, kNone, kNone, kNone};
      for (const std::string& column : input.columns) {
        const std::size_t found = place(column);
        if (found < model.columns().size())  // else it is the parameter
          plan.columns.push_back(found);
      }
      if (!input.order.empty())
        plan.order = place(input.order);
      const std::size_t objects = std::max<std::size_t>(input.max, 1);
      plan.values = addTensor(input.tensor, input.mask.empty() ? 2 : 3, objects * input.columns.size());
      inputShapes_[plan.values].back() = input.columns.size();
      if (!input.mask.empty())
        plan.mask = addTensor(input.mask, 2, objects);
      plans_.push_back(std::move(plan));
    }
    addOutput(metadata.output, {0, sizeOf(metadata.labels)});
    if (metadata.inside)
      addSelection(*metadata.inside);
    findDomain();
    rows_.reserve(kUsualObjects);
  }

  void Scorer::addSelection(const Inside& inside) {
    foldInput_ = addTensor("fold", 2, 1);
    inputShapes_[foldInput_].back() = 1;
    addOutput("passed", {0, 1});
    addOutput("failed", {0, 1});
    addOutput("cuts", {0, sizeOf(inside.cuts)});
    if (!inside.columns.empty())
      addOutput("columns", {0, sizeOf(inside.columns)});
    for (const MadeCollection& collection : inside.collections) {
      const auto room = static_cast<std::int64_t>(collection.size);
      addOutput("made_" + collection.name, {0, room, sizeOf(collection.fields)});
      addOutput("made_" + collection.name + "_mask", {0, room});
      decision_.widths_.push_back(collection.fields.size());
    }
    decision_.counts_.resize(inside.collections.size());
    decision_.values_.resize(inside.collections.size());
    for (const KnownTensor& known : model_->metadata().domain) {
      const auto room = static_cast<std::int64_t>(known.size);
      addOutput(known.tensor, {0, room, sizeOf(known.inputs)});
      if (known.mask.empty())
        outputShapes_.back() = {0, sizeOf(known.inputs)};
      else
        addOutput(known.mask, {0, room});
    }
  }

  void Scorer::findDomain() {
    const Metadata& metadata = model_->metadata();
    const std::vector<std::string>& names = metadata.inside ? outputNames_ : inputNames_;
    const auto& shapes = metadata.inside ? outputShapes_ : inputShapes_;
    for (const KnownTensor& known : metadata.domain) {
      const std::size_t values = std::find(names.begin(), names.end(), known.tensor) - names.begin();
      const std::size_t mask = std::find(names.begin(), names.end(), known.mask) - names.begin();
      const std::size_t rank = known.mask.empty() ? 2 : 3;
      if (values == names.size() || (mask == names.size()) != known.mask.empty() || shapes[values].size() != rank ||
          shapes[values].back() != sizeOf(known.inputs))
        throw Error(model_->path() + ": `domain` has a tensor " + known.tensor +
                    " that the model does not have. Export it again.");
      known_.push_back({&known, values, known.mask.empty() ? kNone : mask});
      outside_.inputs.resize(outside_.inputs.size() + known.inputs.size());
    }
  }

  void Scorer::addOutput(const std::string& name, std::vector<std::int64_t> shape) {
    outputNames_.push_back(name);
    outputShapes_.push_back(std::move(shape));
    outputs_.emplace_back();
  }

  /// `most`: room for that many values, for each parameter, so that the array does not grow from event to event.
  std::size_t Scorer::addTensor(const std::string& name, std::size_t rank, std::size_t most) {
    inputNames_.push_back(name);
    inputs_.emplace_back().reserve(most * std::max<std::size_t>(parameters_.size(), 1));
    inputShapes_.emplace_back(rank, 0);
    return inputNames_.size() - 1;
  }

  Scores Scorer::score(const std::vector<Column>& columns, const std::optional<EventNumber>& number) {
    checkColumns(columns);
    const Metadata& metadata = model_->metadata();
    const std::size_t repeats = std::max<std::size_t>(parameters_.size(), 1);
    const std::size_t rows = countObjects(columns);
    tooMany_ = false;
    for (const Plan& plan : plans_) {
      if (plan.mask == kNone)
        fillFeatures(plan, columns, rows);
      else
        fillObjects(plan, columns);
    }
    const bool ofFold = number && !metadata.inside;
    outputNames_.front() = ofFold ? metadata.foldOutput : metadata.output;
    std::vector<std::int64_t>& shape = outputShapes_.front();
    shape.resize(ofFold ? 3 : 2);
    shape[1] = metadata.folds;
    shape.back() = metadata.labels.size();
    const std::size_t fold = number ? foldOf(*number, metadata.folds) : 0;
    if (foldInput_ != kNone) {
      inputs_[foldInput_].assign(repeats, number ? static_cast<float>(fold) : -1.f);
      inputShapes_[foldInput_].front() = repeats;
    }
    if (rows > 0)
      run(repeats * rows);
    const std::size_t labels = metadata.labels.size();
    if (!ofFold)
      return Scores(outputs_.front().data(), repeats, rows, labels);
    folded_.resize(repeats * rows * labels);
    for (std::size_t row = 0; row < repeats * rows; ++row)
      std::copy_n(
          outputs_.front().data() + (row * metadata.folds + fold) * labels, labels, folded_.data() + row * labels);
    return Scores(folded_.data(), repeats, rows, labels);
  }

  void Scorer::checkColumns(const std::vector<Column>& columns) const {
    const std::vector<Request>& requests = model_->columns();
    if (columns.size() != requests.size())
      throw Error("model " + model_->metadata().name + " reads " + std::to_string(requests.size()) +
                  " columns, but there are " + std::to_string(columns.size()) + ".");
    for (std::size_t i = 0; i < columns.size(); ++i) {
      if (columns[i].missing() && (!requests[i].fallback || !requests[i].collection.empty()))
        throw Error("model " + model_->metadata().name + " reads column " + requests[i].name + ", which is missing.");
    }
  }

  /// Number of rows to be scored.
  std::size_t Scorer::countObjects(const std::vector<Column>& columns) const {
    if (model_->metadata().collection.empty())
      return 1;
    const auto first = std::find_if(model_->columns().begin(), model_->columns().end(), [](const Request& request) {
      return !request.collection.empty();
    });
    return columns[first - model_->columns().begin()].size();
  }

  void Scorer::fillFeatures(const Plan& plan, const std::vector<Column>& columns, std::size_t rows) {
    const std::size_t width = plan.input->columns.size();
    std::vector<float>& values = inputs_[plan.values];
    inputShapes_[plan.values][0] = rows;
    values.resize(rows * width);
    firstObjects(rows, rows, rows_);
    for (std::size_t i = 0; i < plan.columns.size(); ++i) {
      const Request& request = model_->columns()[plan.columns[i]];
      const Column& column = columns[plan.columns[i]];
      if (!request.collection.empty()) {
        checkSize(plan, plan.columns[i], column.size(), rows, request.collection.c_str());
        copyObjects(column, rows_, values.data() + i, width);
        continue;
      }
      if (column.missing()) {
        for (std::size_t row = 0; row < rows; ++row)
          values[row * width + i] = *request.fallback;
        continue;
      }
      checkSize(plan, plan.columns[i], column.size(), 1, "an event");
      checkExact(plan, plan.columns[i], column);
      column.visit([&](const auto* value) {
        for (std::size_t row = 0; row < rows; ++row)
          values[row * width + i] = static_cast<float>(*value);
      });
    }
    repeat(plan.values);
    for (std::size_t i = 0; i < parameters_.size() * rows; ++i)
      values[i * width + width - 1] = parameters_[i / rows];
  }

  void Scorer::fillObjects(const Plan& plan, const std::vector<Column>& columns) {
    const std::size_t width = plan.input->columns.size();
    const std::size_t first = plan.order == kNone ? plan.columns.front() : plan.order;
    const Column& leading = columns[first];
    if (plan.order == kNone)
      firstObjects(leading.size(), plan.input->max, rows_);
    else
      sortObjects(leading, plan.input->descending, plan.input->max, rows_);
    tooMany_ = tooMany_ || leading.size() > plan.input->max;
    // an event without objects has one row of padding; a selection works on lists of fixed length
    const std::size_t length = foldInput_ == kNone ? std::max<std::size_t>(rows_.size(), 1) : plan.input->max;
    std::vector<float>&values = inputs_[plan.values], &mask = inputs_[plan.mask];
    values.assign(length * width, 0.f);
    mask.assign(length, 0.f);
    std::fill_n(mask.begin(), rows_.size(), 1.f);
    for (std::size_t i = 0; i < plan.columns.size(); ++i) {
      const Column& column = columns[plan.columns[i]];
      checkSize(plan, plan.columns[i], column.size(), leading.size(), model_->columns()[first].name.c_str());
      checkExact(plan, plan.columns[i], column);
      copyObjects(column, rows_, values.data() + i, width);
    }
    inputShapes_[plan.values][0] = inputShapes_[plan.mask][0] = 1;
    inputShapes_[plan.values][1] = inputShapes_[plan.mask][1] = length;
    repeat(plan.values);
    repeat(plan.mask);
  }

  /// Copies of a tensor behind it, one for each further parameter.
  void Scorer::repeat(std::size_t tensor) {
    if (parameters_.size() < 2)
      return;
    std::vector<float>& values = inputs_[tensor];
    const std::size_t size = values.size();
    values.resize(size * parameters_.size());
    for (std::size_t i = 1; i < parameters_.size(); ++i)
      std::copy_n(values.begin(), size, values.begin() + i * size);
    inputShapes_[tensor][0] *= parameters_.size();
  }

  void Scorer::checkSize(
      const Plan& plan, std::size_t column, std::size_t size, std::size_t expected, const char* like) const {
    if (size != expected)
      throw Error("model " + model_->metadata().name + ", tensor " + plan.input->tensor + ": column " +
                  model_->columns()[column].name + " has " + std::to_string(size) + " values, but " + like + " has " +
                  std::to_string(expected) + ".");
  }

  /// A selection compares integers, so they must not be rounded.
  void Scorer::checkExact(const Plan& plan, std::size_t column, const Column& values) const {
    if (foldInput_ == kNone)
      return;
    values.visit([&](const auto* value) {
      using T = std::remove_cv_t<std::remove_pointer_t<decltype(value)>>;
      if constexpr (std::is_integral_v<T> && sizeof(T) > 2) {
        constexpr double kLargest = 1 << 24;
        for (std::size_t i = 0; i < values.size(); ++i) {
          if (std::abs(static_cast<double>(value[i])) > kLargest)
            throw Error("model " + model_->metadata().name + ", tensor " + plan.input->tensor + ": column " +
                        model_->columns()[column].name + " is " + std::to_string(value[i]) +
                        ", but the model reads float32, in which integers are exact up to 16777216.");
        }
      }
    });
  }

  void Scorer::run(std::size_t batch) {
    for (auto& shape : outputShapes_)
      shape.front() = batch;
    try {
      outputs_ = model_->session().run(inputNames_, inputs_, inputShapes_, outputNames_, batch);
    } catch (const std::exception& problem) {
      throw Error(model_->path() + ": the network cannot be run: " + problem.what());
    }
    for (std::size_t i = 0; i < outputs_.size(); ++i) {
      std::size_t expected = 1;
      for (const std::int64_t length : outputShapes_[i])
        expected *= length;
      if (outputs_[i].size() != expected)
        throw Error(model_->path() + ": output " + outputNames_[i] + " has " + std::to_string(outputs_[i].size()) +
                    " values, expected are " + std::to_string(expected) + ". Export the model again.");
    }
    decide();
    if (!decision_.passed_ || decision_.failed_)
      return;
    const std::vector<float>& scores = outputs_.front();
    if (!std::all_of(scores.begin(), scores.end(), [](float score) { return std::isfinite(score); }))
      throw Error(model_->path() + ": a score is NaN or infinite.");
    countOutside(batch);
  }

  /// Counts the rows with an input outside of the domain; any of the objects will do.
  void Scorer::countOutside(std::size_t batch) {
    const auto& tensors = model_->metadata().inside ? outputs_ : inputs_;
    outside_.rows += batch;
    std::size_t number = 0;
    for (const Known& known : known_) {
      const float* values = tensors[known.values].data();
      const float* mask = known.mask == kNone ? nullptr : tensors[known.mask].data();
      const std::size_t width = known.tensor->inputs.size(), objects = tensors[known.values].size() / (batch * width);
      for (std::size_t i = 0; i < width; ++i, ++number) {
        const InputRange& range = known.tensor->inputs[i];
        for (std::size_t row = 0; row < batch; ++row) {
          std::size_t place = row * objects;
          const std::size_t end = place + objects;
          while (place < end && ((mask && mask[place] == 0) || range.contains(values[place * width + i])))
            ++place;
          outside_.inputs[number] += place < end;
        }
      }
    }
  }

  /// Reads the outputs of the selection, which are the same for each parameter.
  void Scorer::decide() {
    if (foldInput_ == kNone)
      return;
    const Inside& inside = *model_->metadata().inside;
    decision_.failed_ = (outputs_[2][0] > 0 ? Decision::kNoResult : 0u) | (tooMany_ ? Decision::kTooMany : 0u);
    decision_.passed_ = outputs_[1][0] > 0;
    const auto cut = outputs_[3].begin();
    decision_.cuts_ = std::count_if(cut, cut + inside.cuts.size(), [](float passed) { return passed > 0; });
    std::size_t output = 4;
    if (!inside.columns.empty())
      decision_.columns_ = outputs_[output++].data();
    for (std::size_t i = 0; i < inside.collections.size(); ++i) {
      decision_.values_[i] = outputs_[output++].data();
      const auto mask = outputs_[output++].begin();
      decision_.counts_[i] = std::count(mask, mask + inside.collections[i].size, 1.f);
    }
  }

}  // namespace nanoml
