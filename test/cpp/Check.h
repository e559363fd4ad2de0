#ifndef MLTools_NanoML_test_Check_h
#define MLTools_NanoML_test_Check_h

#include <cstdlib>
#include <functional>
#include <iostream>
#include <string>

#include "MLTools/NanoML/interface/Error.h"

/// Ends the test if something is not as it must be.
#define CHECK(condition)                                                                  \
  do {                                                                                    \
    if (!(condition)) {                                                                   \
      std::cerr << __FILE__ << ":" << __LINE__ << ": not true: " #condition << std::endl; \
      std::exit(1);                                                                       \
    }                                                                                     \
  } while (false)

/// Ends the test unless `action` throws an Error whose message has all of these words in it.
template <typename... Words>
void checkThrows(const std::function<void()>& action, const Words&... words) {
  std::string message;
  try {
    action();
  } catch (const nanoml::Error& problem) {
    message = problem.what();
  }
  for (const std::string& word : {std::string(words)...}) {
    if (message.find(word) == std::string::npos) {
      std::cerr << "\"" << message << "\" does not say \"" << word << "\"" << std::endl;
      std::exit(1);
    }
  }
  CHECK(!message.empty());
}

#endif
