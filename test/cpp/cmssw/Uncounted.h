#ifndef MLTools_NanoML_test_Uncounted_h
#define MLTools_NanoML_test_Uncounted_h

/// While there is one in a thread, memory that is allocated there is CMSSW's, not ours: see Allocations.h.
class Uncounted {
public:
  Uncounted() { ++depth; }
  ~Uncounted() { --depth; }
  Uncounted(const Uncounted&) = delete;
  Uncounted& operator=(const Uncounted&) = delete;
  static inline thread_local int depth = 0;
};

#endif
