#include "TableColumns.h"

#include <algorithm>

#include "MLTools/NanoML/interface/Error.h"
#include "TriggerBits.h"

namespace nanoml {

  namespace {
    using nanoaod::FlatTable;

    /// Name of the column that a branch is in a table; `found` tells whether it can be one of it.
    std::string leafOf(const std::string& branch, const std::string& table, bool& found) {
      found = table.empty() || branch == table;
      if (found)
        return table.empty() ? branch : std::string();
      found =
          branch.size() > table.size() && branch.compare(0, table.size(), table) == 0 && branch[table.size()] == '_';
      return found ? branch.substr(table.size() + 1) : std::string();
    }

    template <typename T>
    Column typed(const FlatTable& table, unsigned int column) {
      const auto values = table.columnData<T>(column);
      return values.size() == 0 ? Column(static_cast<const float*>(nullptr), 0) : Column(&values[0], table.size());
    }

    Column converted(const FlatTable& table, unsigned int column, std::vector<double>& values) {
      values.resize(table.size());
      for (unsigned int row = 0; row < table.size(); ++row)
        values[row] = table.getAnyValue(row, column);
      return Column(values.data(), values.size());
    }

    std::string namesOf(const TableColumns::Tables& tables) {
      std::string names;
      for (const FlatTable* table : tables)
        names += (names.empty() ? "" : ", ") + table->name();
      return names.empty() ? "none" : names;
    }
  }  // namespace

  TableColumns::TableColumns(const std::vector<Request>& requests, const std::vector<std::string>& corrected)
      : requests_(&requests), columns_(requests.size()), converted_(requests.size()), counters_(requests.size()) {
    for (const Request& request : requests)
      corrected_.push_back(std::find(corrected.begin(), corrected.end(), request.name) != corrected.end());
  }

  std::vector<Column>& TableColumns::read(const Tables& tables, const Tables& correctedTables) {
    const bool first = places_.empty();
    places_.resize(requests_->size());
    for (std::size_t i = 0; i < requests_->size(); ++i) {
      const Tables& among = corrected_[i] ? correctedTables : tables;
      if (first || !isThere(places_[i], among))
        places_[i] = find((*requests_)[i], among);
      columns_[i] = places_[i].missing ? Column() : view(places_[i], i, among);
    }
    return columns_;
  }

  bool TableColumns::isThere(const Place& place, const Tables& tables) const {
    if (place.missing)
      return true;
    const FlatTable& table = *tables[place.table];
    return place.counter || (place.column < table.nColumns() && table.columnName(place.column) == place.leaf);
  }

  TableColumns::Place TableColumns::find(const Request& request, const Tables& tables) const {
    if (TriggerBits::isBit(request.name))
      return {0, 0, false, true, ""};
    std::vector<Place> places;
    for (std::size_t i = 0; i < tables.size(); ++i) {
      const FlatTable& table = *tables[i];
      if (request.collection.empty() && !table.singleton() && !table.extension() &&
          request.name == "n" + table.name()) {
        places.push_back({i, 0, true, false, ""});
        continue;
      }
      bool possible = false;
      const std::string leaf = leafOf(request.name, table.name(), possible);
      const int column = possible ? table.columnIndex(leaf) : -1;
      if (column >= 0)
        places.push_back({i, static_cast<unsigned int>(column), false, false, leaf});
    }
    if (places.empty() && request.fallback)
      return {0, 0, false, true, ""};
    if (places.empty())
      throw Error("no table has column " + request.name + " (there are " + namesOf(tables) +
                  "). Add its table to `tables`, or to `correctedTables` if the model wants it corrected.");
    if (places.size() > 1)
      throw Error("column " + request.name + " is in several of the tables: take all but one of them out of `tables`.");
    const Place& place = places.front();
    const FlatTable& table = *tables[place.table];
    if (!place.counter && table.singleton() != request.collection.empty())
      throw Error("column " + request.name + " has one value per " +
                  (table.singleton() ? "event" : "object of " + table.name()) + ", but the model reads one per " +
                  (request.collection.empty() ? "event" : "object of " + request.collection) + ".");
    return place;
  }

  Column TableColumns::view(const Place& place, std::size_t request, const Tables& tables) {
    const FlatTable& table = *tables[place.table];
    if (place.counter) {
      counters_[request] = table.size();
      return Column(&counters_[request], 1);
    }
    using Type = FlatTable::ColumnType;
    switch (table.columnType(place.column)) {
      case Type::Float:
        return typed<float>(table, place.column);
      case Type::Double:
        return typed<double>(table, place.column);
      case Type::Bool:
        return typed<bool>(table, place.column);
      case Type::UInt8:
        return typed<std::uint8_t>(table, place.column);
      case Type::Int16:
        return typed<std::int16_t>(table, place.column);
      case Type::UInt16:
        return typed<std::uint16_t>(table, place.column);
      case Type::Int32:
        return typed<std::int32_t>(table, place.column);
      case Type::UInt32:
        return typed<std::uint32_t>(table, place.column);
      default:  // types that not all releases have
        return converted(table, place.column, converted_[request]);
    }
  }

}  // namespace nanoml
