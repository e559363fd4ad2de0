// A model on events in one ONNX Runtime: runtime LIBRARY MODEL INPUTS OUTPUTS THREADS, for bench/runtimes.py.
// It takes the C interface of 1.14, which newer libraries have as well.

#include <dlfcn.h>

#include <chrono>
#include <cstdint>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "onnxruntime_c_api.h"

namespace {
  const OrtApi* api = nullptr;

  void check(OrtStatus* status) {
    if (status != nullptr)
      throw std::runtime_error(api->GetErrorMessage(status));
  }

  std::vector<float> read(const std::string& path, std::size_t size) {
    std::vector<float> values(size);
    std::ifstream(path, std::ios::binary).read(reinterpret_cast<char*>(values.data()), size * sizeof(float));
    return values;
  }
}  // namespace

int main(int argc, char** argv) try {
  if (argc != 6)
    return 1;
  void* library = dlopen(argv[1], RTLD_NOW);
  if (library == nullptr)
    throw std::runtime_error(dlerror());
  const auto base = reinterpret_cast<const OrtApiBase* (*)()>(dlsym(library, "OrtGetApiBase"))();
  api = base->GetApi(14);
  const std::string directory = argv[3], out = argv[4];
  const auto given = nlohmann::json::parse(std::ifstream(directory + "/inputs.json"));

  OrtEnv* environment;
  OrtSessionOptions* options;
  OrtSession* session;
  OrtAllocator* allocator;
  OrtMemoryInfo* memory;
  check(api->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "runtime", &environment));
  check(api->CreateSessionOptions(&options));
  check(api->SetIntraOpNumThreads(options, std::stoi(argv[5])));
  check(api->CreateSession(environment, argv[2], options, &session));
  check(api->GetAllocatorWithDefaultOptions(&allocator));
  check(api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));

  std::size_t count;
  check(api->SessionGetOutputCount(session, &count));
  std::vector<const char*> outputs(count), inputs;
  std::vector<std::ofstream> files;
  for (std::size_t i = 0; i < count; ++i) {
    char* name;
    check(api->SessionGetOutputName(session, i, allocator, &name));
    outputs[i] = name;
    files.emplace_back(out + "/" + name, std::ios::binary);
  }
  std::vector<std::vector<std::int64_t>> shapes;
  std::vector<std::vector<float>> values;
  std::vector<std::size_t> widths;
  for (const auto& [name, shape] : given["shapes"].items()) {
    inputs.push_back(name.c_str());
    shapes.push_back(shape.get<std::vector<std::int64_t>>());
    std::size_t width = 1;
    for (std::size_t i = 1; i < shapes.back().size(); ++i)
      width *= shapes.back()[i];
    widths.push_back(width);
    values.push_back(read(directory + "/" + name, width * shapes.back()[0]));
  }
  std::int64_t start = 0;
  const auto began = std::chrono::steady_clock::now();
  for (const std::int64_t end : given["ends"]) {
    std::vector<OrtValue*> feeds(inputs.size()), found(count);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      shapes[i][0] = end - start;
      check(api->CreateTensorWithDataAsOrtValue(memory,
                                                values[i].data() + start * widths[i],
                                                (end - start) * widths[i] * sizeof(float),
                                                shapes[i].data(),
                                                shapes[i].size(),
                                                ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
                                                &feeds[i]));
    }
    check(api->Run(session, nullptr, inputs.data(), feeds.data(), feeds.size(), outputs.data(), count, found.data()));
    for (std::size_t i = 0; i < count; ++i) {
      OrtTensorTypeAndShapeInfo* info;
      ONNXTensorElementDataType type;
      std::size_t size;
      void* data;
      check(api->GetTensorTypeAndShape(found[i], &info));
      check(api->GetTensorElementType(info, &type));
      check(api->GetTensorShapeElementCount(info, &size));
      check(api->GetTensorMutableData(found[i], &data));
      files[i].write(static_cast<const char*>(data), size * (type == ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE ? 8 : 4));
      api->ReleaseTensorTypeAndShapeInfo(info);
      api->ReleaseValue(found[i]);
    }
    for (OrtValue* each : feeds)
      api->ReleaseValue(each);
    start = end;
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
  std::cout << base->GetVersionString() << " " << took.count() << std::endl;
} catch (const std::exception& problem) {
  std::cerr << problem.what() << std::endl;
  return 1;
}
