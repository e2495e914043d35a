// Reads the format of /var/lib/dpkg/status and `apt-cache dumpavail`: stanzas of `Field: value` lines,
// separated by blank lines, where a line that begins with a space continues the field above it.
//
// One bad stanza does not make the others worthless: it is left out as a whole, and reported with the line of
// the fault. Line ends may be LF or CRLF, the last one may be missing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "node.hpp"

namespace package_graph {

/// One alternative of one dependency. The views are into the text that was parsed.
struct parsed_dependency {
  dependency_kind kind = dependency_kind::none;
  version_relation relation = version_relation::any;
  std::uint16_t position = 0;     // within all dependency fields of the package
  std::uint16_t alternative = 0;  // within `a | b | c`
  std::string_view name;
  std::string_view architecture;  // `any` of `python3:any`, mostly empty
  std::string_view version;
};

struct parsed_package {
  std::string_view name;
  std::string_view version;
  std::string_view architecture;
  std::string_view summary;  // the first line of the description
  std::vector<parsed_dependency> dependencies;
  std::size_t line = 0;
};

struct malformed_stanza {
  std::size_t line = 0;
  std::string message;
};

struct status {
  std::vector<parsed_package> packages;     // in the order of the file, repetitions included
  std::vector<malformed_stanza> malformed;  // left out
  std::size_t not_installed = 0;            // left out: removed, only their configuration is still there
};

/// The packages in `text`, which must outlive them.
status parse_status(std::string_view text);

}  // namespace package_graph
