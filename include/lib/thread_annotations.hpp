// Names for clang's thread-safety attributes; nothing for g++. `make lint` checks them.
#pragma once

#ifdef __clang__
#define PAEAN_TSA(x) __attribute__((x))
#else
#define PAEAN_TSA(x)
#endif

#define CAPABILITY(name)          PAEAN_TSA(capability(name))
#define SCOPED_CAPABILITY         PAEAN_TSA(scoped_lockable)
#define GUARDED_BY(lock)          PAEAN_TSA(guarded_by(lock))
#define REQUIRES(...)             PAEAN_TSA(requires_capability(__VA_ARGS__))
#define ACQUIRE(...)              PAEAN_TSA(acquire_capability(__VA_ARGS__))
#define RELEASE(...)              PAEAN_TSA(release_capability(__VA_ARGS__))
#define TRY_ACQUIRE(...)          PAEAN_TSA(try_acquire_capability(__VA_ARGS__))
#define NO_THREAD_SAFETY_ANALYSIS PAEAN_TSA(no_thread_safety_analysis)
