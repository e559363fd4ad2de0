#ifndef MLTools_NanoML_interface_Fold_h
#define MLTools_NanoML_interface_Fold_h

#include <cstddef>
#include <cstdint>

namespace nanoml {

  /// An event by its three numbers, as edm::EventID has them.
  struct EventNumber {
    std::uint64_t run = 0, luminosityBlock = 0, event = 0;
  };

  /// The fold of an event among `folds`: the number of the network that has not seen it in training.
  ///
  /// The rule stands in the metadata of every model; it uses the finaliser of SplitMix64 (Steele, Lea, Flood: Fast
  /// splittable pseudorandom number generators, 2014).
  inline std::size_t foldOf(const EventNumber& number, std::size_t folds) {
    const auto mix = [](std::uint64_t x) {
      x += 0x9E3779B97F4A7C15u;
      x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
      x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
      return x ^ (x >> 31);
    };
    return mix(mix(mix(number.run) + number.luminosityBlock) + number.event) % folds;
  }

}  // namespace nanoml

#endif
