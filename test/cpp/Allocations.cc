// Replaces `new` by one that counts. It stands alone, so that no compiler sees it together with the matching `delete`.

#include "Allocations.h"

#include <cstddef>
#include <cstdlib>
#include <new>

#include "Uncounted.h"

std::atomic<long> allocations{0};

void* operator new(std::size_t size) {
  allocations += Uncounted::depth == 0;
  if (void* place = std::malloc(size))
    return place;
  throw std::bad_alloc();
}

void operator delete(void* place) noexcept { std::free(place); }

void operator delete(void* place, std::size_t) noexcept { std::free(place); }
