#ifndef MLTools_NanoML_interface_Objects_h
#define MLTools_NanoML_interface_Objects_h

#include <cstddef>
#include <cstdint>
#include <vector>

#include "MLTools/NanoML/interface/Column.h"

namespace nanoml {

  /// Chooses the objects that a network reads: `rows` becomes the numbers of the first `max` objects, sorted by `key`.
  ///
  /// Objects of equal key stay in the file's order, and those whose key is NaN come last, ascending or descending,
  /// as in the conversion to HDF5 that made the training data. Does not allocate once `rows` has held as many objects.
  void sortObjects(const Column& key, bool descending, std::size_t max, std::vector<std::uint32_t>& rows);

  /// The same in the file's order: `rows` becomes 0, 1, ... up to the smaller of `size` and `max`.
  void firstObjects(std::size_t size, std::size_t max, std::vector<std::uint32_t>& rows);

  /// Writes the chosen objects' values as float32 to `target[0]`, `target[stride]`, `target[2 * stride]`, ...
  void copyObjects(const Column& column, const std::vector<std::uint32_t>& rows, float* target, std::size_t stride);

}  // namespace nanoml

#endif
