#ifndef PhysicsTools_ONNXRuntime_interface_ONNXRuntime_h
#define PhysicsTools_ONNXRuntime_interface_ONNXRuntime_h

// Stands in for the header of this name in CMSSW, so that NanoML can be tested where CMSSW is not: the same
// interface, over the ONNX Runtime of the system. With NANOML_TEST_2026 it is that of releases from 2026 on.

#include <algorithm>
#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include <onnxruntime_cxx_api.h>

#include "Uncounted.h"

namespace cms::Ort {

  using FloatArrays = std::vector<std::vector<float>>;

  class ONNXRuntime {
  public:
#ifdef NANOML_TEST_2026
    ONNXRuntime(const std::string& path, const ::Ort::SessionOptions& options)
        : session_(environment(), path.c_str(), options) {
#else
    explicit ONNXRuntime(const std::string& path, const ::Ort::SessionOptions* options = nullptr)
        : session_(environment(),
                   path.c_str(),
                   options ? *options : static_cast<const ::Ort::SessionOptions&>(oneThread())) {
#endif
      ::Ort::AllocatorWithDefaultOptions allocator;
      for (std::size_t i = 0; i < session_.GetInputCount(); ++i)
        inputs_.emplace_back(session_.GetInputNameAllocated(i, allocator).get());
      for (std::size_t i = 0; i < session_.GetOutputCount(); ++i) {
        outputs_.emplace_back(session_.GetOutputNameAllocated(i, allocator).get());
        const auto type = session_.GetOutputTypeInfo(i);
        auto& shape = shapes_[outputs_.back()] = type.GetTensorTypeAndShapeInfo().GetShape();
        shape.at(0) = -1;
      }
    }
    ONNXRuntime(const ONNXRuntime&) = delete;
    ONNXRuntime& operator=(const ONNXRuntime&) = delete;

    const std::vector<std::string>& getOutputNames() const { return outputs_; }

    const std::vector<std::int64_t>& getOutputShape(const std::string& name) const {
      const auto found = shapes_.find(name);
      if (found == shapes_.end())
        throw std::runtime_error("no output " + name);
      return found->second;
    }

    FloatArrays run(const std::vector<std::string>& names,
                    FloatArrays& values,
                    const std::vector<std::vector<std::int64_t>>& shapes,
                    const std::vector<std::string>& wanted,
                    std::int64_t = 1) const {
      const Uncounted uncounted;
      const auto memory = ::Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
      const auto tensors = tensorsOf(memory, names, values, shapes);
      const auto asked = pointersTo(wanted), given = pointersTo(inputs_);
      const auto found = const_cast<::Ort::Session&>(session_).Run(
          ::Ort::RunOptions{nullptr}, given.data(), tensors.data(), tensors.size(), asked.data(), asked.size());
      FloatArrays arrays;
      for (const auto& tensor : found) {
        const float* first = tensor.GetTensorData<float>();
        arrays.emplace_back(first, first + tensor.GetTensorTypeAndShapeInfo().GetElementCount());
      }
      return arrays;
    }

  private:
    static ::Ort::Env& environment() {
      static ::Ort::Env environment(ORT_LOGGING_LEVEL_FATAL, "");
      return environment;
    }

#ifndef NANOML_TEST_2026
    static ::Ort::SessionOptions oneThread() {
      ::Ort::SessionOptions options;
      options.SetIntraOpNumThreads(1);
      return options;
    }
#endif

    static std::size_t sizeOf(const std::vector<std::int64_t>& shape) {
      std::size_t size = 1;
      for (const std::int64_t length : shape)
        size *= static_cast<std::size_t>(length);
      return size;
    }

    static std::vector<const char*> pointersTo(const std::vector<std::string>& names) {
      std::vector<const char*> pointers;
      for (const std::string& name : names)
        pointers.push_back(name.c_str());
      return pointers;
    }

    static ::Ort::Value tensorOf(const ::Ort::MemoryInfo& memory,
                                 std::vector<float>& values,
                                 const std::vector<std::int64_t>& shape) {
      return ::Ort::Value::CreateTensor<float>(memory, values.data(), values.size(), shape.data(), shape.size());
    }

    std::vector<::Ort::Value> tensorsOf(const ::Ort::MemoryInfo& memory,
                                        const std::vector<std::string>& names,
                                        FloatArrays& values,
                                        const std::vector<std::vector<std::int64_t>>& shapes) const {
      std::vector<::Ort::Value> tensors;
      for (const std::string& name : inputs_) {
        const std::size_t place = std::find(names.begin(), names.end(), name) - names.begin();
        if (place == names.size())
          throw std::runtime_error("input " + name + " is not given");
        if (sizeOf(shapes.at(place)) != values[place].size())
          throw std::runtime_error("input " + name + " has " + std::to_string(values[place].size()) + " values, not " +
                                   std::to_string(sizeOf(shapes[place])));
        tensors.push_back(tensorOf(memory, values[place], shapes[place]));
      }
      return tensors;
    }

    ::Ort::Session session_;
    std::vector<std::string> inputs_, outputs_;
    std::map<std::string, std::vector<std::int64_t>> shapes_;
  };

}  // namespace cms::Ort

#endif
