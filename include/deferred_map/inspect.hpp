// Looking into arena files without the program that wrote them: the library behind dm-inspect.
//
//   const auto arena = dm::inspect::arena_file::open("stock.arena");
//   const auto report = dm::inspect::check(arena);
//   for (const auto& found : report.findings.listed()) std::cout << found.rule << ": " << found.text << '\n';
//
//   dm::inspect::slot_scan scan(arena, {}, dm::inspect::slot_parts::versions_and_values);
//   while (const auto* slot = scan.next()) std::cout << dm::to_text(*arena.schema(), slot->value) << '\n';
//
// Nothing here maps or recovers, and nothing in a file is believed before it was checked. Only what is for writing writes,
// and that to new files: arena_builder.hpp and repair.hpp.
#pragma once

#include "deferred_map/format/value_text.hpp"
#include "deferred_map/inspect/activity.hpp"
#include "deferred_map/inspect/arena_builder.hpp"
#include "deferred_map/inspect/arena_file.hpp"
#include "deferred_map/inspect/byte_source.hpp"
#include "deferred_map/inspect/check.hpp"
#include "deferred_map/inspect/commit_reader.hpp"
#include "deferred_map/inspect/diff.hpp"
#include "deferred_map/inspect/finding.hpp"
#include "deferred_map/inspect/journal_state.hpp"
#include "deferred_map/inspect/leaves.hpp"
#include "deferred_map/inspect/owners.hpp"
#include "deferred_map/inspect/picture.hpp"
#include "deferred_map/inspect/repair.hpp"
#include "deferred_map/inspect/schema_cpp.hpp"
#include "deferred_map/inspect/schema_numpy.hpp"
#include "deferred_map/inspect/slots.hpp"
#include "deferred_map/inspect/summary.hpp"
#include "deferred_map/inspect/survey.hpp"
