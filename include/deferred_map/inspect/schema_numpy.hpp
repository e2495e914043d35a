// A schema as numpy's structured dtypes, by which numpy.memmap reads values straight from the file.
#pragma once

#include <string>

#include "deferred_map/format/schema.hpp"
#include "deferred_map/inspect/arena_file.hpp"

namespace dm::inspect {

/// A Python expression for the dtype of one value, padding and all; for use where numpy is called `numpy`. Keys and
/// enumerations are their numbers, text is `S`, opaque bytes are `V`.
std::string to_numpy(const dm::schema& schema);

/// A Python program that defines `value_dtype`, `slot_dtype`, `offset`, `stride` and `shape`, and maps the slots that there
/// are now as `slots`. Requires: arena.has_layout() and arena.schema().
std::string numpy_program(const arena_file& arena);

}  // namespace dm::inspect
