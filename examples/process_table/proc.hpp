// Reads /proc: the processes of this machine as they are now.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "process.hpp"

namespace process_table {

/// What /proc/PID/stat says; nothing where it says something else.
std::optional<process> parse_stat(std::string_view stat);

/// One process, but for its parent's key. Nothing where there is none of that pid (any more).
std::optional<process> read_process(std::uint32_t pid);

/// All processes there are, by pid. One that ends meanwhile is in it or not. Errors: table_error where there is no /proc.
std::vector<process> read_processes();

std::int64_t now_unix_ns() noexcept;
std::uint32_t ticks_per_second() noexcept;

}  // namespace process_table
