// Loads models that may be damaged, which must end in an Error or in a model, but in nothing else: testDamage < PATHS
// prints for each whether it was refused.

#include <iostream>
#include <string>

#include "MLTools/NanoML/interface/Error.h"
#include "MLTools/NanoML/interface/Model.h"

int main() {
  for (std::string path; std::getline(std::cin, path);) {
    bool refused = false;
    try {
      nanoml::Model{path};
    } catch (const nanoml::Error&) {
      refused = true;
    }
    std::cout << refused << '\n';
  }
  return 0;
}
