#ifndef MLTools_NanoML_test_Events_h
#define MLTools_NanoML_test_Events_h

#include <cmath>
#include <cstdint>
#include <fstream>
#include <limits>
#include <map>
#include <stdexcept>
#include <string>
#include <variant>
#include <vector>

#include <nlohmann/json.hpp>

#include "MLTools/NanoML/interface/Column.h"
#include "MLTools/NanoML/interface/Model.h"

/// Values of a column in one event, as they are in NanoAOD.
using Values = std::variant<std::vector<std::int8_t>,
                            std::vector<std::uint8_t>,
                            std::vector<std::int16_t>,
                            std::vector<std::uint16_t>,
                            std::vector<std::int32_t>,
                            std::vector<std::uint32_t>,
                            std::vector<float>,
                            std::vector<double>>;

struct Event {
  std::map<std::string, Values> columns;
  std::vector<float> scores;  ///< as Python has them, in the order of nanoml::Scores
};

/// Events for a model, from a file that Python wrote: {"model": path, "parameters": [..], "events": [..]}.
struct Events {
  std::string model;
  std::vector<float> parameters;
  std::vector<Event> events;
};

namespace events {
  template <typename T>
  T number(const nlohmann::json& value) {
    if (value.is_string())  // "nan", "inf", "-inf"
      return static_cast<T>(std::stod(value.get<std::string>()));
    return value.get<T>();
  }

  template <typename T>
  std::vector<T> numbers(const nlohmann::json& values) {
    std::vector<T> found;
    for (const auto& value : values)
      found.push_back(number<T>(value));
    return found;
  }

  inline Values typed(const std::string& type, const nlohmann::json& values) {
    if (type == "int8")
      return numbers<std::int8_t>(values);
    if (type == "uint8" || type == "bool")
      return numbers<std::uint8_t>(values);
    if (type == "int16")
      return numbers<std::int16_t>(values);
    if (type == "uint16")
      return numbers<std::uint16_t>(values);
    if (type == "int32")
      return numbers<std::int32_t>(values);
    if (type == "uint32")
      return numbers<std::uint32_t>(values);
    if (type == "float32")
      return numbers<float>(values);
    if (type == "float64")
      return numbers<double>(values);
    throw std::runtime_error("no type " + type);
  }
}  // namespace events

inline Events readEvents(const std::string& path) {
  std::ifstream file(path);
  const auto content = nlohmann::json::parse(file);
  Events found{content.at("model"), events::numbers<float>(content.at("parameters")), {}};
  for (const auto& event : content.at("events")) {
    found.events.push_back({{}, events::numbers<float>(event.at("scores"))});
    for (const auto& [name, column] : event.at("columns").items())
      found.events.back().columns.emplace(name, events::typed(column.at("type"), column.at("values")));
  }
  return found;
}

/// The columns of an event in the order of a model.
inline void columnsOf(const Event& event, const nanoml::Model& model, std::vector<nanoml::Column>& columns) {
  columns.clear();
  for (const nanoml::Request& request : model.columns())
    std::visit([&](const auto& values) { columns.emplace_back(values.data(), values.size()); },
               event.columns.at(request.name));
}

#endif
