#ifndef MLTools_NanoML_interface_Column_h
#define MLTools_NanoML_interface_Column_h

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace nanoml {

  /// Values of one NanoAOD column in one event: one for each object of a collection, or a single one.
  ///
  /// It points to the values and does not own them: it must not outlive the event's table. Types are those that
  /// NanoAOD has; a column of bool is stored in uint8_t there, or is an array of bool.
  class Column {
  public:
    /// A column that the event does not have.
    Column() = default;

    /// `values` may be null if `size` is 0.
    template <typename T>
    Column(const T* values, std::size_t size) : values_(values), size_(size), type_(typeOf<T>()), missing_(false) {}

    std::size_t size() const { return size_; }
    bool missing() const { return missing_; }

    /// Calls `action` with the values in their own type, a `const T*`.
    template <typename Action>
    void visit(Action&& action) const {
      switch (type_) {
        case Type::kBool:
          return action(static_cast<const bool*>(values_));
        case Type::kInt8:
          return action(static_cast<const std::int8_t*>(values_));
        case Type::kUInt8:
          return action(static_cast<const std::uint8_t*>(values_));
        case Type::kInt16:
          return action(static_cast<const std::int16_t*>(values_));
        case Type::kUInt16:
          return action(static_cast<const std::uint16_t*>(values_));
        case Type::kInt32:
          return action(static_cast<const std::int32_t*>(values_));
        case Type::kUInt32:
          return action(static_cast<const std::uint32_t*>(values_));
        case Type::kInt64:
          return action(static_cast<const std::int64_t*>(values_));
        case Type::kUInt64:
          return action(static_cast<const std::uint64_t*>(values_));
        case Type::kFloat:
          return action(static_cast<const float*>(values_));
        case Type::kDouble:
          return action(static_cast<const double*>(values_));
      }
    }

  private:
    enum class Type : unsigned char {
      kBool,
      kInt8,
      kUInt8,
      kInt16,
      kUInt16,
      kInt32,
      kUInt32,
      kInt64,
      kUInt64,
      kFloat,
      kDouble
    };

    template <typename T>
    static constexpr Type typeOf() {
      if constexpr (std::is_same_v<T, bool>)
        return Type::kBool;
      else if constexpr (std::is_same_v<T, std::int8_t>)
        return Type::kInt8;
      else if constexpr (std::is_same_v<T, std::uint8_t>)
        return Type::kUInt8;
      else if constexpr (std::is_same_v<T, std::int16_t>)
        return Type::kInt16;
      else if constexpr (std::is_same_v<T, std::uint16_t>)
        return Type::kUInt16;
      else if constexpr (std::is_same_v<T, std::int32_t>)
        return Type::kInt32;
      else if constexpr (std::is_same_v<T, std::uint32_t>)
        return Type::kUInt32;
      else if constexpr (std::is_same_v<T, std::int64_t>)
        return Type::kInt64;
      else if constexpr (std::is_same_v<T, std::uint64_t>)
        return Type::kUInt64;
      else if constexpr (std::is_same_v<T, float>)
        return Type::kFloat;
      else {
        static_assert(std::is_same_v<T, double>, "NanoAOD has no columns of this type");
        return Type::kDouble;
      }
    }

    const void* values_ = nullptr;
    std::size_t size_ = 0;
    Type type_ = Type::kFloat;
    bool missing_ = true;
  };

}  // namespace nanoml

#endif
