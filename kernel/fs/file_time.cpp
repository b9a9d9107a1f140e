#include "kernel/fs/file_time.hpp"

#include "arch/interrupts.hpp"
#include "arch/rtc.hpp"
#include "kernel/thread.hpp"

namespace paean {

namespace {

constinit u32 boot_seconds = 0;

// The calendar repeats after 400 years. Years that begin in March have their leap day at the end.
constexpr u32 kDaysIn400Years = 146'097, kDaysTo1970 = 719'468;  // from 1 March of year 0

}  // namespace

u32 seconds_of(const CivilTime& time) {
  const u32 year = time.month > 2 ? time.year : time.year - 1;
  const u32 month = time.month > 2 ? time.month - 3 : time.month + 9;
  // From March on months have 31 30 31 30 31 days, again and again: 153 in five.
  const u32 days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + time.day - 1;
  return ((days - kDaysTo1970) * 24 + time.hour) * 3600 + time.minute * 60 + time.second;
}

CivilTime civil_time(u32 seconds) {
  const u32 days = seconds / 86'400 + kDaysTo1970;
  const u32 era = days / kDaysIn400Years, day_of_era = days % kDaysIn400Years;
  const u32 year_of_era = (day_of_era - day_of_era / 1'460 + day_of_era / 36'524 - day_of_era / 146'096) / 365;
  const u32 day_of_year = day_of_era - (year_of_era * 365 + year_of_era / 4 - year_of_era / 100);
  const u32 month = (day_of_year * 5 + 2) / 153;
  CivilTime time{};
  time.month = month < 10 ? month + 3 : month - 9;
  time.year = era * 400 + year_of_era + (time.month <= 2 ? 1 : 0);
  time.day = day_of_year - (month * 153 + 2) / 5 + 1;
  time.hour = seconds / 3600 % 24;
  time.minute = seconds / 60 % 60;
  time.second = seconds % 60;
  return time;
}

void write_time(Sink& out, u32 seconds) {
  const CivilTime time = civil_time(seconds);
  format_to(out, "{:04}-{:02}-{:02} {:02}:{:02}", time.year, time.month, time.day, time.hour, time.minute);
}

void init_file_time() {
  if (const auto now = arch::read_rtc(); now) {
    boot_seconds = seconds_of({now->year, now->month, now->day, now->hour, now->minute, now->second});
  }
}

u32 file_time_now() { return boot_seconds + ticks_now() / arch::kTicksPerSecond; }

}  // namespace paean
