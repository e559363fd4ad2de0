#ifndef MLTools_NanoML_interface_Sha256_h
#define MLTools_NanoML_interface_Sha256_h

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace nanoml {

  /// SHA-256 (FIPS 180-4) of bytes that come in pieces. One object belongs to one thread.
  class Sha256 {
  public:
    void update(const char* bytes, std::size_t size);

    /// The hash in 64 hexadecimal digits. Nothing may be added afterwards.
    std::string finish();

  private:
    void block(const unsigned char* bytes);

    std::array<std::uint32_t, 8> state_{
        {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}};
    std::array<unsigned char, 64> rest_{};
    std::uint64_t length_ = 0;  // bytes so far
  };

  /// SHA-256 of a file. Throws Error if it cannot be read.
  std::string fileHash(const std::string& path);

}  // namespace nanoml

#endif
