#ifndef DataFormats_NanoAOD_interface_FlatTable_h
#define DataFormats_NanoAOD_interface_FlatTable_h

// Stands in for the header of this name in CMSSW, so that NanoML can be tested where CMSSW is not: as much of its
// interface as is used.

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "Uncounted.h"

namespace nanoaod {

  class FlatTable {
    template <typename T>
    using Stored = std::conditional_t<std::is_same_v<T, bool>, std::uint8_t, T>;

  public:
    enum class ColumnType { Int8, UInt8, Int16, UInt16, Int32, UInt32, Bool, Float, Double };

    FlatTable(unsigned int size, const std::string& name, bool singleton, bool extension = false)
        : size_(size), singleton_(singleton), extension_(extension) {
      const Uncounted uncounted;
      name_ = name;
    }

    unsigned int nColumns() const { return columns_.size(); }
    unsigned int size() const { return size_; }
    bool singleton() const { return singleton_; }
    bool extension() const { return extension_; }
    const std::string& name() const { return name_; }
    const std::string& columnName(unsigned int column) const { return columns_[column].name; }
    ColumnType columnType(unsigned int column) const { return columns_[column].type; }

    int columnIndex(const std::string& name) const {
      for (unsigned int i = 0; i < columns_.size(); ++i) {
        if (columns_[i].name == name)
          return i;
      }
      return -1;
    }

    template <typename T>
    class Span {
    public:
      explicit Span(const std::vector<T>& values) : first_(values.data()), size_(values.size()) {}
      std::size_t size() const { return size_; }
      const T& operator[](std::size_t row) const { return first_[row]; }

    private:
      const T* first_;
      std::size_t size_;
    };

    template <typename T>
    auto columnData(unsigned int column) const {
      return Span<Stored<T>>(std::get<std::vector<Stored<T>>>(columns_[column].values));
    }

    double getAnyValue(unsigned int row, unsigned int column) const {
      return std::visit([row](const auto& values) -> double { return values[row]; }, columns_[column].values);
    }

    void setDoc(const std::string& doc) {
      const Uncounted uncounted;
      doc_ = doc;
    }
    const std::string& doc() const { return doc_; }
    const std::string& columnDoc(unsigned int column) const { return columns_[column].doc; }
    int precision(unsigned int column) const { return columns_[column].precision; }  // CMSSW rounds instead

    template <typename T, typename Values>
    void addColumn(const std::string& name, const Values& values, const std::string& doc, int precision = -1) {
      if (columnIndex(name) != -1 || values.size() != size_)
        throw std::runtime_error("column " + name + " is there, or has another size");
      const Uncounted uncounted;
      columns_.push_back({name, doc, typeOf<T>(), std::vector<Stored<T>>(values.begin(), values.end()), precision});
    }

    template <typename T>
    void addColumnValue(const std::string& name, const T& value, const std::string& doc, int precision = -1) {
      const Uncounted uncounted;
      addColumn<T>(name, std::vector<Stored<T>>{static_cast<Stored<T>>(value)}, doc, precision);
    }

  private:
    template <typename T>
    static ColumnType typeOf() {
      if constexpr (std::is_same_v<T, std::int8_t>)
        return ColumnType::Int8;
      else if constexpr (std::is_same_v<T, std::uint8_t>)
        return ColumnType::UInt8;
      else if constexpr (std::is_same_v<T, std::int16_t>)
        return ColumnType::Int16;
      else if constexpr (std::is_same_v<T, std::uint16_t>)
        return ColumnType::UInt16;
      else if constexpr (std::is_same_v<T, std::int32_t>)
        return ColumnType::Int32;
      else if constexpr (std::is_same_v<T, std::uint32_t>)
        return ColumnType::UInt32;
      else if constexpr (std::is_same_v<T, bool>)
        return ColumnType::Bool;
      else if constexpr (std::is_same_v<T, float>)
        return ColumnType::Float;
      else
        return ColumnType::Double;
    }

    struct Column {
      std::string name, doc;
      ColumnType type;
      std::variant<std::vector<std::int8_t>,
                   std::vector<std::uint8_t>,
                   std::vector<std::int16_t>,
                   std::vector<std::uint16_t>,
                   std::vector<std::int32_t>,
                   std::vector<std::uint32_t>,
                   std::vector<float>,
                   std::vector<double>>
          values;
      int precision;
    };

    unsigned int size_;
    std::string name_, doc_;
    bool singleton_, extension_;
    std::vector<Column> columns_;
  };

}  // namespace nanoaod

#endif
