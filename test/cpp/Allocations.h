#ifndef MLTools_NanoML_test_Allocations_h
#define MLTools_NanoML_test_Allocations_h

#include <atomic>

/// How often memory was allocated so far by `new`, but for what the stand-ins of CMSSW and ONNX Runtime allocate.
extern std::atomic<long> allocations;

#endif
