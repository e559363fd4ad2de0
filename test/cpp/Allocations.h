#ifndef MLTools_NanoML_test_Allocations_h
#define MLTools_NanoML_test_Allocations_h

#include <atomic>

/// How often memory was allocated so far, by `new` in this program and its libraries.
extern std::atomic<long> allocations;

#endif
