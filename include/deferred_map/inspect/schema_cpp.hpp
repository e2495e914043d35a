// A schema as people who write C++ read it.
#pragma once

#include <string>

#include "deferred_map/format/schema.hpp"

namespace dm::inspect {

/// The type as a C++-like declaration, with the offset of each member in a comment, and padding named. Safe to print.
std::string to_cpp(const dm::schema& schema);

}  // namespace dm::inspect
