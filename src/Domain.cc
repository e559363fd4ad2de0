#include "MLTools/NanoML/interface/Domain.h"

#include <algorithm>
#include <cmath>
#include <sstream>

namespace nanoml {

  namespace {
    std::string percent(double share) {
      std::ostringstream text;
      text.precision(share < 0.995 ? 2 : 3);  // not 1e+02
      text << 100 * share << " %";
      return text.str();
    }

    std::vector<const InputRange*> rangesOf(const std::vector<KnownTensor>& domain) {
      std::vector<const InputRange*> ranges;
      for (const KnownTensor& tensor : domain) {
        for (const InputRange& range : tensor.inputs)
          ranges.push_back(&range);
      }
      return ranges;
    }
  }  // namespace

  bool InputRange::isMissing(float value) const {
    return std::isfinite(value) ? std::find(missing.begin(), missing.end(), value) != missing.end() : mayBeMissing;
  }

  Outside::Outside(const std::string& model, const std::string& rows, const std::vector<KnownTensor>& domain)
      : model_(model), of_(rows), ranges_(rangesOf(domain)), inputs_(ranges_.size()) {}

  void Outside::add(const OutsideCounts& counts) const {
    rows_ += counts.rows;
    for (std::size_t i = 0; i < inputs_.size(); ++i)
      inputs_[i] += counts.inputs[i];
  }

  std::string Outside::summary() const {
    std::string shares;
    for (std::size_t i = 0; i < inputs_.size() && rows_ > 0; ++i)
      shares += (i > 0 ? ", " : "") + ranges_[i]->name + " " + percent(static_cast<double>(inputs_[i]) / rows_);
    return shares.empty() ? shares : model_ + ": inputs outside of the training's range: " + shares;
  }

  std::vector<std::string> Outside::warnings() const {
    std::vector<std::string> found;
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      const InputRange& range = *ranges_[i];
      const double expected = range.limit * rows_;
      if (inputs_[i] <= expected + 3 * std::sqrt(expected) + 2)
        continue;
      std::ostringstream text;
      text.precision(4);
      text << model_ << ": " << range.name << " is outside of the range " << range.low << " to " << range.high
           << ", on which the networks were trained, in " << percent(static_cast<double>(inputs_[i]) / rows_)
           << " of the " << rows_ << " " << of_ << "; in the training, in " << percent(range.outside) << ".";
      found.push_back(text.str());
    }
    return found;
  }

}  // namespace nanoml
