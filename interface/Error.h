#ifndef MLTools_NanoML_interface_Error_h
#define MLTools_NanoML_interface_Error_h

#include <stdexcept>

namespace nanoml {

  /// The only exception that this library throws on purpose: what is wrong, where, and what to do about it.
  class Error : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
  };

}  // namespace nanoml

#endif
