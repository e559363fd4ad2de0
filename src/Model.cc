#include "MLTools/NanoML/interface/Model.h"

#include <algorithm>
#include <type_traits>

#include "MLTools/NanoML/interface/Error.h"
#include "MLTools/NanoML/interface/Scorer.h"
#include "MLTools/NanoML/interface/Sha256.h"
#include "PhysicsTools/ONNXRuntime/interface/ONNXRuntime.h"

namespace nanoml {

  namespace {
    std::string twinOf(const std::string& path) {
      const std::string suffix = ".onnx";
      if (path.size() < suffix.size() || path.compare(path.size() - suffix.size(), suffix.size(), suffix) != 0)
        throw Error(path + ": the name of a model ends in .onnx.");
      return path.substr(0, path.size() - suffix.size()) + ".json";
    }

    Metadata loadPair(const std::string& path) {
      const std::string twin = twinOf(path);
      Metadata metadata = Metadata::load(twin);
      const std::string hash = fileHash(path);
      if (hash != metadata.onnxHash)
        throw Error(twin + ": belongs to another version of " + path + " (hash " + metadata.onnxHash.substr(0, 12) +
                    ", not " + hash.substr(0, 12) + "), or that is damaged. Copy both again.");
      return metadata;
    }

    std::optional<float> fallbackOf(const Metadata& metadata, const std::string& column) {
      if (metadata.inside) {
        for (const auto& [name, value] : metadata.inside->defaults)
          if (name == column)
            return value;
      }
      return std::nullopt;
    }

    /// Older releases take the options by pointer, newer ones by reference.
    template <typename Session>
    std::unique_ptr<const Session> startSession(const std::string& path, const ::Ort::SessionOptions* given) {
      ::Ort::SessionOptions single;
      single.SetIntraOpNumThreads(1);
      const ::Ort::SessionOptions& options = given ? *given : single;
      try {
        if constexpr (std::is_constructible_v<Session, const std::string&, const ::Ort::SessionOptions*>)
          return std::make_unique<const Session>(path, &options);
        else
          return std::make_unique<const Session>(path, options);
      } catch (const std::exception& problem) {
        throw Error(path + ": ONNX Runtime cannot load it: " + problem.what() +
                    ". It may need a newer release: export the model for this one.");
      }
    }

    std::vector<Request> requestsOf(const Metadata& metadata) {
      std::vector<Request> requests;
      const auto add = [&](const std::string& name, const std::string& collection) {
        const bool isParameter = metadata.parameter && metadata.parameter->column == name;
        const auto same = [&](const Request& other) { return other.name == name; };
        if (!isParameter && std::none_of(requests.begin(), requests.end(), same))
          requests.push_back({name, collection, fallbackOf(metadata, name)});
      };
      for (const InputTensor& input : metadata.inputs) {
        const std::string collection = input.mask.empty() ? metadata.collection : input.collection;
        const std::string prefix = collection + "_";
        for (const std::string& column : input.columns) {
          const bool ofObjects = !collection.empty() && column.compare(0, prefix.size(), prefix) == 0;
          add(column, ofObjects ? collection : "");
        }
        if (!input.order.empty())
          add(input.order, input.collection);
      }
      if (!metadata.collection.empty() &&
          std::all_of(requests.begin(), requests.end(), [](const Request& it) { return it.collection.empty(); }))
        throw Error("model " + metadata.name + " scores objects of " + metadata.collection +
                    ", but reads none of their columns. Export the model again.");
      return requests;
    }
  }  // namespace

  Model::Model(const std::string& onnxPath, const ::Ort::SessionOptions* options)
      : path_(onnxPath),
        metadata_(loadPair(onnxPath)),
        columns_(requestsOf(metadata_)),
        session_(startSession<cms::Ort::ONNXRuntime>(path_, options)) {
    checkOutput();
    const float zero = 0;
    std::vector<Column> columns;
    for (const Request& request : columns_) {
      const bool padded = !request.collection.empty() && metadata_.collection.empty();
      columns.emplace_back(&zero, padded ? 0 : 1);
    }
    Scorer scorer(*this);
    scorer.score(columns);
    scorer.score(columns, EventNumber());
  }

  Model::~Model() = default;

  void Model::checkOutput() const {
    const std::vector<std::string>& names = session_->getOutputNames();
    if (std::find(names.begin(), names.end(), metadata_.output) == names.end())
      throw Error(path_ + ": has no output " + metadata_.output + ". Export the model again.");
    const auto labels = static_cast<std::int64_t>(metadata_.labels.size());
    const std::vector<std::int64_t>& shape = session_->getOutputShape(metadata_.output);
    const bool open = shape.size() == 2 && shape[1] < 0;  // then the first run tells
    if (shape.size() != 2 || (!open && shape[1] != labels))
      throw Error(path_ + ": output " + metadata_.output + " has " +
                  (shape.size() == 2 ? std::to_string(shape[1]) + " columns" : std::to_string(shape.size()) + " axes") +
                  ", but the JSON file has " + std::to_string(labels) +
                  " names for its columns. Export the model again.");
  }

}  // namespace nanoml
