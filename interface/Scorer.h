#ifndef MLTools_NanoML_interface_Scorer_h
#define MLTools_NanoML_interface_Scorer_h

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "MLTools/NanoML/interface/Column.h"
#include "MLTools/NanoML/interface/Fold.h"
#include "MLTools/NanoML/interface/Model.h"

namespace nanoml {

  /// Scores of one event: for each parameter, each row (object, or the event), each label.
  ///
  /// Points into its Scorer, until that scores the next event.
  class Scores {
  public:
    Scores(const float* values, std::size_t parameters, std::size_t rows, std::size_t labels)
        : values_(values), parameters_(parameters), rows_(rows), labels_(labels) {}

    std::size_t parameters() const { return parameters_; }  ///< 1 if the model has no parameter
    std::size_t rows() const { return rows_; }              ///< number of objects; 1 for events
    std::size_t labels() const { return labels_; }          ///< number of classes and discriminants, or of targets

    float at(std::size_t parameter, std::size_t row, std::size_t label) const {
      return values_[(parameter * rows_ + row) * labels_ + label];
    }

  private:
    const float* values_;
    std::size_t parameters_, rows_, labels_;
  };

  /// What the selection inside a model says of an event.
  ///
  /// Without one, all events pass. Points into its Scorer, until that scores the next event.
  class Decision {
  public:
    enum Failure : unsigned {
      kNone = 0,
      kNoResult = 1,  ///< the selection has no result for the event
      kTooMany = 2    ///< the event has more objects than there is room for
    };

    bool passed() const { return passed_; }
    unsigned failed() const { return failed_; }  ///< bits of Failure; if there is any, nothing else may be used
    std::size_t cuts() const { return cuts_; }   ///< how many cuts the event has passed, one after the other

    /// A column of the selection; 0 if the event has not passed.
    float column(std::size_t column) const { return columns_[column]; }

    /// Number of objects of a collection that the selection has made; none if the event has not passed.
    std::size_t objects(std::size_t collection) const { return counts_[collection]; }
    float object(std::size_t collection, std::size_t object, std::size_t field) const {
      return values_[collection][object * widths_[collection] + field];
    }

  private:
    friend class Scorer;
    bool passed_ = true;
    unsigned failed_ = kNone;
    std::size_t cuts_ = 0;
    const float* columns_ = nullptr;
    std::vector<std::size_t> counts_, widths_;
    std::vector<const float*> values_;
  };

  /// Turns the columns of an event into the tensors of a network, and runs it: once for an event.
  ///
  /// One Scorer belongs to one thread at a time, and its model must outlive it. Its arrays are reused: apart from
  /// what ONNX Runtime and its wrapper do, no memory is allocated after the first event, unless one has more objects
  /// than any before: those that a model scores, or more than a thousand in a collection.
  class Scorer {
  public:
    /// `parameters`: values of the model's parameter, for each of which there is a score; empty: those of the training.
    ///
    /// Throws Error if the model has no parameter, or a value is not finite.
    explicit Scorer(const Model& model, std::vector<float> parameters = {});

    const std::vector<float>& parameters() const { return parameters_; }

    /// Scores of one event: by the network of its fold, or without its number the mean of all networks.
    ///
    /// The network of its fold has not seen the event in training; all others have, if it was there.
    ///
    /// `columns` are those of `model.columns()`, in that order: of a collection one value per object, in the
    /// file's order; others one value. One that has a fallback may be missing. The network reads the first `max`
    /// objects in its order of each padded collection, which may have none. A model of objects scores all of them, in
    /// the file's order.
    ///
    /// Throws Error that names tensor, column and both sizes if there are other numbers of columns or values,
    /// if the network fails, or if a score is not finite; with a selection inside also if an integer is not exact as
    /// float32. The scores of an event that fails it, or does not pass, are whatever numbers they are.
    Scores score(const std::vector<Column>& columns, const std::optional<EventNumber>& number = std::nullopt);

    /// What the selection inside the model says of the event that was scored last.
    const Decision& decision() const { return decision_; }

    /// How many of all that was scored, and passed, lies outside of the model's domain.
    const OutsideCounts& outside() const { return outside_; }

  private:
    /// Where a tensor of the domain is: among the inputs of the model or, with a selection inside, its outputs.
    struct Known {
      const KnownTensor* tensor;
      std::size_t values, mask;  // no mask: kNone
    };

    /// Where the columns of a tensor are among those of the model.
    struct Plan {
      const InputTensor* input;
      std::vector<std::size_t> columns;  // without the parameter
      std::size_t order;                 // kNone: the file's order
      std::size_t values, mask;          // numbers of the tensors; no mask: kNone
    };
    static constexpr std::size_t kNone = static_cast<std::size_t>(-1);

    std::size_t addTensor(const std::string& name, std::size_t rank, std::size_t most);
    void checkColumns(const std::vector<Column>& columns) const;
    std::size_t countObjects(const std::vector<Column>& columns) const;
    void fillFeatures(const Plan& plan, const std::vector<Column>& columns, std::size_t rows);
    void fillObjects(const Plan& plan, const std::vector<Column>& columns);
    void repeat(std::size_t tensor);
    void checkSize(const Plan& plan, std::size_t column, std::size_t size, std::size_t expected, const char* like) const;
    void checkExact(const Plan& plan, std::size_t column, const Column& values) const;
    void addOutput(const std::string& name, std::vector<std::int64_t> shape);
    void run(std::size_t batch);
    void decide();
    void addSelection(const Inside& inside);
    void findDomain();
    void countOutside(std::size_t batch);

    const Model* model_;
    std::vector<float> parameters_;  // empty if the model has none
    std::vector<Plan> plans_;
    std::vector<std::string> inputNames_, outputNames_;
    std::vector<std::vector<float>> inputs_, outputs_;
    std::vector<std::vector<std::int64_t>> inputShapes_, outputShapes_;
    std::vector<std::uint32_t> rows_;
    std::size_t foldInput_ = kNone;  // number of the tensor with the fold
    std::vector<float> folded_;      // scores by the network of the fold
    bool tooMany_ = false;
    Decision decision_;
    std::vector<Known> known_;
    OutsideCounts outside_;
  };

}  // namespace nanoml

#endif
