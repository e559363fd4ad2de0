#ifndef MLTools_NanoML_interface_Metadata_h
#define MLTools_NanoML_interface_Metadata_h

#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "MLTools/NanoML/interface/Domain.h"

namespace nanoml {

  /// One input tensor of a network, with its mask if it is a collection.
  struct InputTensor {
    std::string tensor;
    std::vector<std::string> columns;  ///< full names, in the order of the last axis
    std::string mask;                  ///< name of the mask's tensor; empty: not a padded collection
    std::string collection;            ///< of the padded objects; empty: not a padded collection
    std::size_t max = 0;               ///< objects at most
    std::string order;                 ///< full name of the column that they are sorted by; empty: the file's order
    bool descending = false;
    std::string selection;                      ///< the selection that makes columns; empty if none does
    std::vector<std::string> selectionColumns;  ///< those columns
  };

  /// A column that is no branch: the consumer chooses its value, such as the mass of a hypothesis.
  struct Parameter {
    std::string column;         ///< the last one of the tensor `features`
    std::vector<float> values;  ///< those of the training
    bool only = false;          ///< the model knows no other values: trees do not interpolate
  };

  /// How much an event looks like one class among others, if these have given shares f of the events: from the
  /// probabilities p of the classes follows f_s p_s / (sum of f_k p_k), s being the signal.
  struct Discriminant {
    std::string name;
    std::string signal;
    std::vector<double> shares;  ///< of each of the classes; 0: it does not count
  };

  /// What networks give beside their classes, or beside the targets of a regression.
  struct Head {
    std::string name;                  ///< "targets" for estimates, or an auxiliary head
    std::vector<std::string> outputs;  ///< names of its outputs
  };

  /// What a number is, as a branch: what comes out of a network is float32.
  enum class NumberKind { kBool, kUInt8, kInt32, kUInt32, kFloat };

  /// A number that a selection inside a model gives.
  struct MadeNumber {
    std::string name;
    NumberKind kind;
    std::string title;
  };

  /// A collection that a selection inside a model gives.
  struct MadeCollection {
    std::string name;
    std::size_t size = 0;            ///< room for objects
    std::vector<MadeNumber> fields;  ///< in the order of the last axis of its tensor
  };

  /// A selection that is compiled into a model, in front of its networks. Such a model reads branches, and its tensors
  /// of objects have a fixed length.
  struct Inside {
    std::string name;                 ///< as "module:Class"
    std::optional<std::string> era;   ///< the only one that it is for; none: it does not depend on the era
    std::optional<bool> isData;       ///< whether it is for data or for simulation; none: for both
    std::vector<std::string> cuts;    ///< in their order
    std::vector<MadeNumber> columns;  ///< of the event
    std::vector<MadeCollection> collections;
    std::vector<std::pair<std::string, float>> defaults;  ///< of columns that may be missing
    std::vector<std::string> corrected;                   ///< columns that must have corrected values
  };

  /// What a model says of itself, in the JSON file beside it: the twin of the metadata inside the ONNX file.
  ///
  /// Immutable after `parse`, so it can be read by any number of threads.
  struct Metadata {
    std::string name;
    std::string collection;  ///< whose objects are scored; empty: events are
    std::vector<InputTensor> inputs;
    std::string output;               ///< the output tensor that is the mean of all folds
    std::string foldOutput;           ///< the one with each fold; empty: the fold is an input
    std::size_t folds = 1;            ///< number of networks
    std::vector<std::string> labels;  ///< of its last axis: classes and discriminants, or targets; and those of `heads`
    std::vector<Discriminant> discriminants;
    std::vector<Head> heads;
    bool regression = false;
    std::optional<Parameter> parameter;
    std::optional<Inside> inside;
    std::vector<KnownTensor> domain;  ///< of the networks' inputs; none in models of before they travelled with them
    std::string onnxHash;             ///< SHA-256 of the ONNX file, hexadecimal

    /// How many of the labels are classes, or targets of a regression.
    std::size_t classes() const;

    /// What a label stands for: "probability of class WZ", "signal against WZ 0.7, ZZ 0.3", "regression of nu_px",
    /// "output of the head quality".
    std::string meaning(std::size_t label) const;

    /// Understands JSON text. `path` is for messages.
    ///
    /// Throws Error if it is no JSON, of another schema, or does not describe a model wholly and consistently.
    static Metadata parse(const std::string& text, const std::string& path);

    /// The same of a file. Throws Error, also if it cannot be read.
    static Metadata load(const std::string& path);
  };

}  // namespace nanoml

#endif
