// Runs jobs of cmsRun over the stand-ins: testJob JOB.json... Python has written their configurations: the source, and the
// modules in the order in which they run, each parameter with its type. All of them read the same file of events.

#include <cstdint>
#include <fstream>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "../framework/TestModules.cc"
#include "MLTools/NanoML/plugins/NanoMLFilter.cc"
#include "MLTools/NanoML/plugins/NanoMLProducer.cc"

namespace edm {
  void from_json(const json& given, FileInPath& path) { path = FileInPath(given.get<std::string>()); }

  void from_json(const json& given, InputTag& tag) {
    std::istringstream text(given.get<std::string>());
    std::string parts[3];
    for (std::string& part : parts)
      std::getline(text, part, ':');
    tag = InputTag(parts[0], parts[1], parts[2]);
  }

  template <typename T>
  void add(ParameterSet& all, const std::string& name, const json& value) {
    all.addParameter(name, value.get<T>());
  }

  void from_json(const json& given, ParameterSet& all) {
    static const std::map<std::string, void (*)(ParameterSet&, const std::string&, const json&)> types{
        {"bool", add<bool>},
        {"int32", add<int>},
        {"string", add<std::string>},
        {"vdouble", add<std::vector<double>>},
        {"vstring", add<Names>},
        {"FileInPath", add<FileInPath>},
        {"InputTag", add<InputTag>},
        {"VInputTag", add<std::vector<InputTag>>},
        {"PSet", add<ParameterSet>}};
    for (const auto& [name, parameter] : given.items())
      types.at(parameter.at(0))(all, name, parameter.at(1));
  }
}  // namespace edm

namespace {
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
                           edm::makers().at(module.at("type"))(module.at("parameters").get<edm::ParameterSet>()));
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

int main(int argc, char** argv) {
  bool failed = false;
  for (int i = 1; i < argc; ++i) {
    try {
      std::ifstream file(argv[i]);
      run(json::parse(file));
    } catch (const std::exception& problem) {
      std::cerr << argv[i] << ": " << problem.what() << std::endl;
      failed = true;
    }
  }
  if (failed)
    return 65;  // as cmsRun
  for (const auto* said : {&edm::LogWarning::said(), &edm::LogInfo::said(), &edm::LogAbsolute::said()}) {
    for (const std::string& line : *said)
      std::cout << line << std::endl;
  }
  return 0;
}
