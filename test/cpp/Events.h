#ifndef MLTools_NanoML_test_Events_h
#define MLTools_NanoML_test_Events_h

#include <cmath>
#include <cstdint>
#include <fstream>
#include <limits>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <variant>
#include <vector>

#include <nlohmann/json.hpp>

#include "MLTools/NanoML/interface/Column.h"
#include "MLTools/NanoML/interface/Fold.h"
#include "MLTools/NanoML/interface/Model.h"

/// Values of a column in one event, as they are in NanoAOD.
using Values = std::variant<std::vector<std::int8_t>,
                            std::vector<std::uint8_t>,
                            std::vector<std::int16_t>,
                            std::vector<std::uint16_t>,
                            std::vector<std::int32_t>,
                            std::vector<std::uint32_t>,
                            std::vector<std::int64_t>,
                            std::vector<std::uint64_t>,
                            std::vector<float>,
                            std::vector<double>>;

/// What Python says of an event, if the model has its selection inside.
struct Expected {
  bool passed;
  unsigned failed;
  std::size_t cuts;
  std::vector<float> columns;
  std::vector<std::vector<std::vector<float>>> made;  ///< collections, objects, fields
};

struct Event {
  std::map<std::string, Values> columns;
  std::vector<float> scores;                  ///< as Python has them, in the order of nanoml::Scores
  std::optional<nanoml::EventNumber> number;  ///< none: the mean of all networks
  std::optional<Expected> decision;
};

/// Events for a model, from a file that Python wrote: {"model": path, "parameters": [..], "events": [..]}. Each event
/// has its "columns" and "scores", and may have its "number" and "decision". In "outside" there may be in how many of
/// them each input lies outside of the model's domain.
struct Events {
  std::string model;
  std::vector<float> parameters;
  std::vector<Event> events;
  std::vector<std::uint64_t> outside;
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
    if (type == "int64")
      return numbers<std::int64_t>(values);
    if (type == "uint64")
      return numbers<std::uint64_t>(values);
    if (type == "float32")
      return numbers<float>(values);
    if (type == "float64")
      return numbers<double>(values);
    throw std::runtime_error("no type " + type);
  }

  inline Expected decision(const nlohmann::json& given) {
    Expected found{given.at("passed"), given.at("failed"), given.at("cuts"), numbers<float>(given.at("columns")), {}};
    for (const auto& collection : given.at("made")) {
      found.made.emplace_back();
      for (const auto& object : collection)
        found.made.back().push_back(numbers<float>(object));
    }
    return found;
  }
}  // namespace events

inline Events readEvents(const std::string& path) {
  std::ifstream file(path);
  const auto content = nlohmann::json::parse(file);
  Events found{content.at("model"),
               events::numbers<float>(content.at("parameters")),
               {},
               content.value("outside", std::vector<std::uint64_t>{})};
  for (const auto& event : content.at("events")) {
    Event& last = found.events.emplace_back();
    last.scores = events::numbers<float>(event.at("scores"));
    for (const auto& [name, column] : event.at("columns").items())
      last.columns.emplace(name, events::typed(column.at("type"), column.at("values")));
    if (event.contains("number"))
      last.number = {event["number"].at(0), event["number"].at(1), event["number"].at(2)};
    if (event.contains("decision"))
      last.decision = events::decision(event["decision"]);
  }
  return found;
}

/// The columns of an event in the order of a model; those that it lacks are missing.
inline void columnsOf(const Event& event, const nanoml::Model& model, std::vector<nanoml::Column>& columns) {
  columns.clear();
  for (const nanoml::Request& request : model.columns()) {
    nanoml::Column& column = columns.emplace_back();
    if (const auto found = event.columns.find(request.name); found != event.columns.end())
      std::visit([&](const auto& values) { column = {values.data(), values.size()}; }, found->second);
  }
}

#endif
