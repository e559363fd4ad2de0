#ifndef MLTools_NanoML_interface_Model_h
#define MLTools_NanoML_interface_Model_h

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "MLTools/NanoML/interface/Metadata.h"

namespace cms::Ort {
  class ONNXRuntime;
}
namespace Ort {
  struct SessionOptions;
}

namespace nanoml {

  /// A column that a model reads.
  struct Request {
    std::string name;                              ///< as the branch of NanoAOD is called: MET_pt, Jet_eta, nMuon
    std::string collection;                        ///< one value for each object of it; empty: one value per event
    std::optional<float> fallback = std::nullopt;  ///< taken for an event that lacks the column; none: it must be there
  };

  /// A trained model, loaded once: what it says of itself, and the session that runs it.
  ///
  /// Immutable: all threads share one. Each has a Scorer of its own, which must not outlive the model.
  class Model {
  public:
    /// Loads an ONNX file that `nanoml export` wrote, and the JSON file of the same name beside it.
    ///
    /// `options` are those of ONNX Runtime's session; null: one thread on the CPU.
    ///
    /// Throws Error if one of them is missing or damaged, if they do not belong together, or if the network
    /// does not have the tensors that the JSON file describes; it is run once to see that.
    explicit Model(const std::string& onnxPath, const ::Ort::SessionOptions* options = nullptr);
    ~Model();
    Model(const Model&) = delete;
    Model& operator=(const Model&) = delete;

    const std::string& path() const { return path_; }
    const Metadata& metadata() const { return metadata_; }

    /// All columns that a Scorer wants, in its order; each once. The parameter is not among them.
    const std::vector<Request>& columns() const { return columns_; }

    const cms::Ort::ONNXRuntime& session() const { return *session_; }

  private:
    void checkOutput() const;

    const std::string path_;
    const Metadata metadata_;
    const std::vector<Request> columns_;
    const std::unique_ptr<const cms::Ort::ONNXRuntime> session_;
  };

}  // namespace nanoml

#endif
