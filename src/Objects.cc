#include "MLTools/NanoML/interface/Objects.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <type_traits>

namespace nanoml {

  namespace {
    template <typename T>
    bool isNaN(T value) {
      if constexpr (std::is_floating_point_v<T>)
        return std::isnan(value);
      else
        return false;
    }

    /// Whether a comes before b for its value alone; NaN comes after all numbers.
    template <typename T>
    bool before(T a, T b, bool descending) {
      if (isNaN(a) || isNaN(b))
        return isNaN(b) && !isNaN(a);
      return descending ? b < a : a < b;
    }
  }  // namespace

  void sortObjects(const Column& key, bool descending, std::size_t max, std::vector<std::uint32_t>& rows) {
    firstObjects(key.size(), key.size(), rows);
    const std::size_t kept = std::min(key.size(), max);
    key.visit([&](const auto* values) {
      // the number of the object decides between equals, which makes any sort stable
      const auto earlier = [&](std::uint32_t a, std::uint32_t b) {
        return before(values[a], values[b], descending) || (a < b && !before(values[b], values[a], descending));
      };
      if (!std::is_sorted(rows.begin(), rows.end(), earlier))  // NanoAOD is mostly sorted already
        std::partial_sort(rows.begin(), rows.begin() + kept, rows.end(), earlier);
    });
    rows.resize(kept);
  }

  void firstObjects(std::size_t size, std::size_t max, std::vector<std::uint32_t>& rows) {
    rows.resize(std::min(size, max));
    std::iota(rows.begin(), rows.end(), 0u);
  }

  void copyObjects(const Column& column, const std::vector<std::uint32_t>& rows, float* target, std::size_t stride) {
    column.visit([&](const auto* values) {
      for (const std::uint32_t row : rows) {
        *target = static_cast<float>(values[row]);
        target += stride;
      }
    });
  }

}  // namespace nanoml
