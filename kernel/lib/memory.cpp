// The four functions that a freestanding compiler may call by itself. String instructions: microcoded to whole cache
// lines on every CPU that has PAE worth using, and one instruction a word under an instruction-counting emulator.
#include "lib/types.hpp"

extern "C" {

void* memcpy(void* to, const void* from, size_t count) {
  void* result = to;
  size_t words = count / 4, rest = count % 4;
  asm volatile("rep movsl\n movl %3, %%ecx\n rep movsb" : "+D"(to), "+S"(from), "+c"(words) : "r"(rest) : "memory");
  return result;
}

void* memset(void* to, int value, size_t count) {
  void* result = to;
  size_t words = count / 4, rest = count % 4;
  const unsigned pattern = (value & 255u) * 0x01010101u;
  asm volatile("rep stosl\n movl %3, %%ecx\n rep stosb" : "+D"(to), "+c"(words) : "a"(pattern), "r"(rest) : "memory");
  return result;
}

void* memmove(void* to, const void* from, size_t count) {
  auto* out = static_cast<unsigned char*>(to);
  const auto* in = static_cast<const unsigned char*>(from);
  if (out <= in || out >= in + count) return memcpy(to, from, count);
  const unsigned char* last_in = in + count - 1;
  unsigned char* last_out = out + count - 1;
  asm volatile("std; rep movsb; cld" : "+D"(last_out), "+S"(last_in), "+c"(count)::"memory");
  return to;
}

int memcmp(const void* left, const void* right, size_t count) {
  const auto* a = static_cast<const unsigned char*>(left);
  const auto* b = static_cast<const unsigned char*>(right);
  for (size_t i = 0; i < count; ++i) {
    if (a[i] != b[i]) return a[i] - b[i];
  }
  return 0;
}

void* memchr(const void* bytes, int value, size_t count) {
  const auto* at = static_cast<const unsigned char*>(bytes);
  for (size_t i = 0; i < count; ++i) {
    if (at[i] == static_cast<unsigned char>(value)) return const_cast<unsigned char*>(at + i);
  }
  return nullptr;
}

size_t strlen(const char* text) {
  size_t length = 0;
  while (text[length] != '\0') ++length;
  return length;
}

}  // extern "C"
