// The level of the processor whose versions of the functions in rollout.cpp are to be called.

#include "cpu_level.hpp"

// v2, v3, v4 or generic; null where the processor runs none.
extern "C" __attribute__((visibility("default"))) const char* hetsyn_kernel() { return hetsyn::cpu_level_name(); }
