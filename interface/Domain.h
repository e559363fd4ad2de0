#ifndef MLTools_NanoML_interface_Domain_h
#define MLTools_NanoML_interface_Domain_h

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace nanoml {

  /// The values of an input of the networks in the training.
  struct InputRange {
    std::string name;
    float low = 0, high = 0;     ///< what is not between them lies outside
    std::vector<float> missing;  ///< but for these, which stand for a missing value
    bool mayBeMissing = false;   ///< then numbers that are not finite count as inside, too
    double outside = 0;          ///< share of the training's rows outside, in the class that has most
    double limit = 0;            ///< share above which there is a warning

    bool contains(float value) const { return (value >= low && value <= high) || isMissing(value); }
    bool isMissing(float value) const;
  };

  /// A tensor that the networks read: an input of the model or, with a selection inside, one of its outputs.
  struct KnownTensor {
    std::string tensor;
    std::string mask;                ///< empty: it has no objects
    std::size_t size = 0;            ///< objects at most
    std::vector<InputRange> inputs;  ///< its columns, in order
  };

  /// How many rows were scored (events, or objects of a model of objects), and in how many each input lies outside.
  struct OutsideCounts {
    std::uint64_t rows = 0;
    std::vector<std::uint64_t> inputs;  ///< of all tensors, one after the other
  };

  /// The sum of such counts, to which any number of threads may add.
  class Outside {
  public:
    /// `rows` is what is scored, "events" or "objects"; `domain` must outlive this object.
    Outside(const std::string& model, const std::string& rows, const std::vector<KnownTensor>& domain);

    void add(const OutsideCounts& counts) const;

    /// One line with the share of rows in which each input lies outside; empty if there is nothing to say.
    std::string summary() const;

    /// A line for each input that lies outside more often than in the training, and than statistics explain.
    std::vector<std::string> warnings() const;

  private:
    const std::string model_, of_;
    const std::vector<const InputRange*> ranges_;
    mutable std::atomic<std::uint64_t> rows_{0};
    mutable std::vector<std::atomic<std::uint64_t>> inputs_;
  };

}  // namespace nanoml

#endif
