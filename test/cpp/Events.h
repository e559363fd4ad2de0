#ifndef MLTools_NanoML_test_Events_h
#define MLTools_NanoML_test_Events_h

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

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

/// Events for a model, from a file that Python wrote. Each line is a word for what it has, and its numbers: the model,
/// its parameters, in how many of the events each input lies outside of the model's domain, and for each event its
/// columns and scores, perhaps its number and what a selection decides.
struct Events {
  std::string model;
  std::vector<float> parameters;
  std::vector<Event> events;
  std::vector<std::uint64_t> outside;
};

namespace events {
  /// All numbers that are left in a line.
  template <typename T>
  std::vector<T> numbers(std::istream& line) {
    std::vector<T> found;
    for (std::string word; line >> word;) {
      if constexpr (std::is_floating_point_v<T>)
        found.push_back(std::strtod(word.c_str(), nullptr));
      else if constexpr (std::is_signed_v<T>)
        found.push_back(std::strtoll(word.c_str(), nullptr, 10));
      else
        found.push_back(std::strtoull(word.c_str(), nullptr, 10));
    }
    return found;
  }

  inline Values typed(const std::string& type, std::istream& line) {
    if (type == "int8")
      return numbers<std::int8_t>(line);
    if (type == "uint8" || type == "bool")
      return numbers<std::uint8_t>(line);
    if (type == "int16")
      return numbers<std::int16_t>(line);
    if (type == "uint16")
      return numbers<std::uint16_t>(line);
    if (type == "int32")
      return numbers<std::int32_t>(line);
    if (type == "uint32")
      return numbers<std::uint32_t>(line);
    if (type == "int64")
      return numbers<std::int64_t>(line);
    if (type == "uint64")
      return numbers<std::uint64_t>(line);
    if (type == "float32")
      return numbers<float>(line);
    if (type == "float64")
      return numbers<double>(line);
    throw std::runtime_error("no type " + type);
  }

  inline void readLine(const std::string& what, std::istream& line, Events& found) {
    if (what == "model")
      std::getline(line >> std::ws, found.model);
    else if (what == "parameters")
      found.parameters = numbers<float>(line);
    else if (what == "outside")
      found.outside = numbers<std::uint64_t>(line);
    else if (what == "event")
      found.events.emplace_back();
    else {
      Event& event = found.events.back();
      std::string name, type;
      if (what == "column" && line >> name >> type)
        event.columns.emplace(name, typed(type, line));
      else if (what == "scores")
        event.scores = numbers<float>(line);
      else if (what == "number")
        line >> event.number.emplace().run >> event.number->luminosityBlock >> event.number->event;
      else if (what == "decision")
        line >> event.decision.emplace().passed >> event.decision->failed >> event.decision->cuts;
      else if (what == "columns")
        event.decision->columns = numbers<float>(line);
      else if (what == "made")
        event.decision->made.emplace_back();
      else if (what == "object")
        event.decision->made.back().push_back(numbers<float>(line));
      else
        throw std::runtime_error("no line begins with " + what);
    }
  }
}  // namespace events

inline Events readEvents(const std::string& path) {
  std::ifstream file(path);
  Events found;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string what;
    words >> what;
    events::readLine(what, words, found);
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
