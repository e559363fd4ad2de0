// Loads damaged copies of a model, which must end in an Error or in a model, but in nothing else: testDamage MODEL.onnx DIRECTORY [/PART]

#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "Check.h"
#include "MLTools/NanoML/interface/Model.h"
#include "MLTools/NanoML/interface/Sha256.h"

namespace {
  using nlohmann::json;

  std::string read(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }

  void write(const std::string& path, const std::string& content) { std::ofstream(path, std::ios::binary) << content; }

  class Damage {
  public:
    /// Damages the structure only below `part`; empty for all of it.
    Damage(const std::string& model, const std::string& directory, std::string part)
        : part_(std::move(part)),
          onnx_(read(model)),
          twin_(read(model.substr(0, model.size() - 5) + ".json")),
          place_(directory + "/damaged") {}

    /// Whether such a pair of files is refused; anything but an Error ends the test.
    bool refused(const std::string& onnx, const std::string& twin) const {
      write(place_ + ".onnx", onnx);
      write(place_ + ".json", twin);
      try {
        nanoml::Model{place_ + ".onnx"};
      } catch (const nanoml::Error&) {
        return true;
      }
      return false;
    }

    void testOnnx() {
      CHECK(!refused(onnx_, twin_));
      for (std::size_t i = 0; i < 100; ++i) {
        CHECK(refused(onnx_.substr(0, onnx_.size() * i / 100), twin_));
        CHECK(refused(flipped(onnx_), twin_));
      }
    }

    void testTwin() {
      for (std::size_t i = 0; i < 100; ++i) {
        CHECK(refused(onnx_, twin_.substr(0, twin_.find_last_of('}') * i / 100)));
        refused(onnx_, flipped(twin_));  // it may be in a text that does not matter
      }
    }

    /// Every part of the JSON that is used becomes something else, or is left out.
    void testStructure() const {
      const json content = json::parse(twin_);
      const std::vector<json> others{
          nullptr, true, -1, 0, 1e300, 18446744073709551615u, "", "x", json::array(), json::object(), {json()}};
      const json flat = content.flatten();
      std::set<std::string> parts;
      for (const auto& [path, value] : flat.items()) {
        if (path.find(part_) != 0 || path.find("/training") == 0 || path.find("/reference") == 0 ||
            path.find("/target") == 0)
          continue;
        for (json::json_pointer pointer(path); !pointer.empty(); pointer = pointer.parent_pointer()) {
          if (!parts.insert(pointer.to_string()).second)
            break;
          for (const json& other : others) {
            json changed = content;
            changed[pointer] = other;
            refused(onnx_, changed.dump());
          }
        }
      }
      for (const auto& [key, value] : content.items()) {
        json changed = content;
        changed.erase(key);
        const bool optional = key == "parameter" || key == "collection" || key == "training" || key == "reference" ||
                              key == "target" || key == "domain";
        CHECK(refused(onnx_, changed.dump()) != optional);
      }
    }

    /// A pair whose hashes agree, as if it had been exported so.
    bool refusedAsExported(const std::string& onnx) const {
      nanoml::Sha256 hash;
      hash.update(onnx.data(), onnx.size());
      json changed = json::parse(twin_);
      changed["onnx_sha256"] = hash.finish();
      return refused(onnx, changed.dump());
    }

    void testOnnxOfSameHash() const {
      for (std::size_t i = 0; i < 30; ++i)
        CHECK(refusedAsExported(onnx_.substr(0, onnx_.size() * i / 30)));
    }

  private:
    std::string flipped(std::string content) {
      content[random_() % content.size()] ^= 1 << random_() % 8;
      return content;
    }

    std::string part_, onnx_, twin_, place_;
    std::mt19937 random_{1};
  };
}  // namespace

int main(int argc, char** argv) {
  CHECK(argc > 2);
  Damage damage(argv[1], argv[2], argc > 3 ? argv[3] : "");
  damage.testOnnx();
  damage.testTwin();
  damage.testStructure();
  damage.testOnnxOfSameHash();
  return 0;
}
