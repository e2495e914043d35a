// Precompiled: what every verb includes and takes longest to read.
// Guarded by hand, since the compiler warns of #pragma once in the file it is given.
#ifndef DM_INSPECT_HEAVY_HEADERS_HPP
#define DM_INSPECT_HEAVY_HEADERS_HPP

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#endif
