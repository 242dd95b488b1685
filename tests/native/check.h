// The smallest thing that a test needs: CHECK counts failures, and finish() is main's answer.
#pragma once

#include <cstdio>

namespace lpnode::test {

inline int num_failures = 0;

inline void report(const char* file, int line, const char* claim) {
  std::fprintf(stderr, "%s:%d: not true: %s\n", file, line, claim);
  ++num_failures;
}

inline int finish() { return num_failures == 0 ? 0 : 1; }

}  // namespace lpnode::test

#define CHECK(claim) \
  do {               \
    if (!(claim)) ::lpnode::test::report(__FILE__, __LINE__, #claim); \
  } while (false)

#define CHECK_THROWS(expression, type)                                  \
  do {                                                                  \
    bool was_thrown = false;                                            \
    try {                                                               \
      expression;                                                       \
    } catch (const type&) {                                             \
      was_thrown = true;                                                \
    }                                                                   \
    if (!was_thrown) ::lpnode::test::report(__FILE__, __LINE__, #expression " throws " #type); \
  } while (false)
