// The level of the processor whose versions of the functions in rollout.cpp are to be called.

#include "cpu_level.hpp"

// v2, v3, v4 or generic; null where the processor runs none.
extern "C" __attribute__((visibility("default"))) const char* hetsyn_kernel() { return hetsyn::cpu_level_name(); }

// Rises with each change of Layer, or of a function's arguments, in rollout.cpp: another checkout may have built this.
extern "C" __attribute__((visibility("default"))) int hetsyn_rollout_format() { return 8; }
