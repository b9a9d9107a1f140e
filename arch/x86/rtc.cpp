// MC146818 and its descendants, behind ports 0x70 and 0x71.
#include "arch/rtc.hpp"

#include <array>

#include "arch/port.hpp"

namespace paean::arch {

namespace {

constexpr u16 kIndex = 0x70, kData = 0x71;
constexpr u8 kSeconds = 0, kMinutes = 2, kHours = 4, kDay = 7, kMonth = 8, kYear = 9, kStatusA = 0xa, kStatusB = 0xb;
constexpr u8 kUpdating = 0x80;  // of status A
constexpr u8 kBinary = 4, k24Hours = 2;
constexpr u8 kAfternoon = 0x80;  // of hours from 1 to 12

u8 read_register(u8 number) {
  out8(kIndex, number);
  return in8(kData);
}

using Fields = std::array<u8, 6>;

Fields read_fields() {
  constexpr u32 kPatience = 4000;  // reads of about a microsecond: an update takes 2 ms
  for (u32 i = 0; i < kPatience && (read_register(kStatusA) & kUpdating) != 0; ++i) {}
  return {read_register(kSeconds), read_register(kMinutes), read_register(kHours),
          read_register(kDay),     read_register(kMonth),   read_register(kYear)};
}

constexpr u32 from_bcd(u32 value) { return (value >> 4) * 10 + (value & 15); }

}  // namespace

std::optional<RtcTime> read_rtc() {
  Fields fields = read_fields();
  // Two equal readings cannot have met an update.
  for (u32 tries = 0; tries < 10; ++tries) {
    const Fields again = read_fields();
    if (again == fields) break;
    fields = again;
  }
  const u8 mode = read_register(kStatusB);
  const bool afternoon = (mode & k24Hours) == 0 && (fields[2] & kAfternoon) != 0;
  if ((mode & k24Hours) == 0) fields[2] &= 0x7f;
  std::array<u32, 6> values{};
  for (u32 i = 0; i < fields.size(); ++i) values[i] = (mode & kBinary) != 0 ? fields[i] : from_bcd(fields[i]);
  RtcTime time{.year = 2000 + values[5],
               .month = values[4],
               .day = values[3],
               .hour = values[2],
               .minute = values[1],
               .second = values[0]};
  if ((mode & k24Hours) == 0) time.hour = time.hour % 12 + (afternoon ? 12 : 0);
  const bool sound = time.second < 60 && time.minute < 60 && time.hour < 24 && time.day - 1 < 31 &&
                     time.month - 1 < 12 && values[5] < 100;
  if (!sound) return std::nullopt;
  return time;
}

}  // namespace paean::arch
