#include "MLTools/NanoML/interface/Sha256.h"

#include <algorithm>
#include <fstream>
#include <functional>
#include <vector>

#include "MLTools/NanoML/interface/Error.h"

namespace nanoml {

  namespace {
    constexpr std::array<std::uint32_t, 64> kRounds{
        {0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
         0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
         0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
         0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
         0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
         0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
         0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
         0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2}};

    constexpr std::uint32_t rotated(std::uint32_t word, int bits) { return word >> bits | word << (32 - bits); }
  }  // namespace

  void Sha256::block(const unsigned char* bytes) {
    std::array<std::uint32_t, 64> words;
    for (std::size_t i = 0; i < 16; ++i) {
      words[i] = std::uint32_t{bytes[4 * i]} << 24 | std::uint32_t{bytes[4 * i + 1]} << 16 |
                 std::uint32_t{bytes[4 * i + 2]} << 8 | std::uint32_t{bytes[4 * i + 3]};
    }
    for (std::size_t i = 16; i < 64; ++i) {
      const std::uint32_t late = words[i - 2], early = words[i - 15];
      words[i] = (rotated(late, 17) ^ rotated(late, 19) ^ late >> 10) + words[i - 7] +
                 (rotated(early, 7) ^ rotated(early, 18) ^ early >> 3) + words[i - 16];
    }
    auto [a, b, c, d, e, f, g, h] = state_;
    for (std::size_t i = 0; i < 64; ++i) {
      const std::uint32_t first =
          h + (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) + ((e & f) ^ (~e & g)) + kRounds[i] + words[i];
      const std::uint32_t second = (rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
      h = g, g = f, f = e, e = d + first;
      d = c, c = b, b = a, a = first + second;
    }
    const std::array<std::uint32_t, 8> change{{a, b, c, d, e, f, g, h}};
    std::transform(state_.begin(), state_.end(), change.begin(), state_.begin(), std::plus<>());
  }

  void Sha256::update(const char* bytes, std::size_t size) {
    auto next = reinterpret_cast<const unsigned char*>(bytes);
    const auto end = next + size;
    std::size_t held = length_ % rest_.size();
    length_ += size;
    while (next != end) {
      const std::size_t taken = std::min<std::size_t>(rest_.size() - held, end - next);
      std::copy(next, next + taken, rest_.begin() + held);
      next += taken;
      held += taken;
      if (held == rest_.size()) {
        block(rest_.data());
        held = 0;
      }
    }
  }

  std::string Sha256::finish() {
    const std::uint64_t bits = length_ * 8;
    const std::size_t held = length_ % 64;
    std::string tail(1, '\x80');
    tail.append((held < 56 ? 55 : 119) - held, '\0');
    for (int shift = 56; shift >= 0; shift -= 8) {
      tail.push_back(static_cast<char>(bits >> shift & 0xff));
    }
    update(tail.data(), tail.size());
    std::string text;
    for (const std::uint32_t word : state_) {
      for (int shift = 28; shift >= 0; shift -= 4) {
        text.push_back("0123456789abcdef"[word >> shift & 0xf]);
      }
    }
    return text;
  }

  std::string fileHash(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) {
      throw Error(path + ": cannot be opened. Is the path right?");
    }
    Sha256 hash;
    std::vector<char> piece(1 << 16);
    while (file.read(piece.data(), piece.size()) || file.gcount() > 0) {
      hash.update(piece.data(), file.gcount());
    }
    if (file.bad()) {
      throw Error(path + ": cannot be read to its end.");
    }
    return hash.finish();
  }

}  // namespace nanoml
