// Runs a job of cmsRun over the stand-ins: testJob JOB.json. Python has written its configuration: the source, and the
// modules in the order in which they run, each parameter with its type.

#include <cstdint>
#include <fstream>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "../framework/TestModules.cc"
#include "MLTools/NanoML/plugins/NanoMLFilter.cc"
#include "MLTools/NanoML/plugins/NanoMLProducer.cc"

namespace {
  using nlohmann::json;

  edm::InputTag tagOf(const std::string& text) {
    const std::size_t colon = text.find(':'), second = text.rfind(':');
    if (colon == std::string::npos)
      return text.c_str();
    return {text.substr(0, colon), text.substr(colon + 1, second - colon - 1), text.substr(second + 1)};
  }

  std::vector<edm::InputTag> tagsOf(const json& given) {
    std::vector<edm::InputTag> tags;
    for (const json& tag : given)
      tags.push_back(tagOf(tag));
    return tags;
  }

  edm::ParameterSet parametersOf(const json& given) {
    edm::ParameterSet found;
    for (const auto& [name, parameter] : given.items()) {
      const std::string type = parameter.at(0);
      const json& value = parameter.at(1);
      if (type == "string")
        found.addParameter(name, value.get<std::string>());
      else if (type == "bool")
        found.addParameter(name, value.get<bool>());
      else if (type == "int32")
        found.addParameter(name, value.get<int>());
      else if (type == "vdouble")
        found.addParameter(name, value.get<std::vector<double>>());
      else if (type == "vstring")
        found.addParameter(name, value.get<std::vector<std::string>>());
      else if (type == "FileInPath")
        found.addParameter(name, edm::FileInPath(value));
      else if (type == "PSet")
        found.addParameter(name, parametersOf(value));
      else if (type == "InputTag")
        found.addParameter(name, tagOf(value));
      else if (type == "VInputTag")
        found.addParameter(name, tagsOf(value));
      else
        throw cms::Exception("Configuration") << name << " is a " << type << ", which no plugin has.";
    }
    return found;
  }

  /// The first event: bits of the mantissa of each column, and its title.
  void describe(const edm::Event& event) {
    for (const auto& kept : event.kept()) {
      edm::Handle<nanoaod::FlatTable> table;
      event.getByToken(kept.second, table);
      for (unsigned int i = 0; i < table->nColumns(); ++i)
        std::cout << table->columnName(i) << ' ' << table->precision(i) << ' ' << table->columnDoc(i) << '\n';
    }
  }

  void run(const json& job) {
    std::vector<std::pair<std::string, edm::Worker>> workers;
    for (const json& module : job.at("modules"))
      workers.emplace_back(module.at("label"),
                           edm::makers().at(module.at("type"))(parametersOf(module.at("parameters"))));
    const std::uint64_t block = job.at("firstLuminosityBlock"), first = job.at("firstEvent"),
                        each = job.at("numberEventsInLuminosityBlock");
    for (std::uint64_t i = 0; i < job.at("events"); ++i) {
      edm::Event event(edm::EventID(1, block + i / each, first + i), job.value("isRealData", false));
      for (auto& [label, worker] : workers) {
        event.runs(label);
        if (!worker.streams[i % worker.streams.size()]->run(event))
          break;
      }
      if (i == 0)
        describe(event);
    }
    for (auto& named : workers) {
      for (const auto& stream : named.second.streams)
        stream->end();
      named.second.end();
    }
  }
}  // namespace

int main(int, char** argv) {
  try {
    std::ifstream file(argv[1]);
    run(json::parse(file));
  } catch (const std::exception& problem) {
    std::cerr << problem.what() << std::endl;
    return 65;  // as cmsRun
  }
  for (const auto* said : {&edm::LogWarning::said(), &edm::LogInfo::said(), &edm::LogAbsolute::said()}) {
    for (const std::string& line : *said)
      std::cout << line << std::endl;
  }
  return 0;
}
