// dm-inspect: looks into arena files without the program that wrote them.
#include <csignal>
#include <exception>
#include <new>
#include <system_error>
#include <vector>

#include "deferred_map/format/value_text.hpp"
#include "verbs.hpp"

#include <unistd.h>

#ifndef DM_VERSION
#define DM_VERSION "0.1.0"
#endif

namespace tool {
namespace {

// In the order of --help, a line for each kind.
// clang-format off
constexpr verb_maker verb_makers[] = {
    make_info, make_slots, make_get,
    make_stats, make_map, make_owners, make_watch,
    make_check, make_repair,
    make_schema, make_diff, make_log,
    make_export, make_import,
    make_list, make_gc,
};
// clang-format on

constexpr const char* description =
    "Looks into deferred-map arena files and segments: what they hold, how they were left, whether they are sound.\n"
    "Works on files that are in use, damaged or on read-only media; never writes unless the verb says so.";

constexpr const char* footer = R"(Examples:
  dm-inspect info stock.arena                      what it is, and how it was left
  dm-inspect slots stock.arena --state reserved    the slots that wait for their value
  dm-inspect get stock.arena 3:1 17:4              what two keys name
  dm-inspect check stock.arena && echo sound
  dm-inspect slots stock.arena --format json | jq '.slots[].value'
  dm-inspect map shm:quotes                        a picture of a shared-memory segment
  dm-inspect owners shm:quotes                     who is attached, alive or dead

Exit codes, added up:
  0   clean
  1   something was corrected
  4   faults are left: the file has errors, or a key is not live
  8   could not run: no such file, no arena, not readable
 16   usage
 32   interrupted

Run 'dm-inspect VERB --help' for the options of a verb.)";

extern "C" void on_interrupt(int) {
  // Nothing to tidy up in a program that only reads; only this may be called here.
  ::_exit(exit_interrupted);
}

void settle_signals() {
  // A closed pipe ends the program as it ends any other, also where the parent has told it to be ignored.
  std::signal(SIGPIPE, SIG_DFL);
  // Where interrupts are ignored, as in the background of a script, they stay so.
  if (std::signal(SIGINT, on_interrupt) == SIG_IGN) std::signal(SIGINT, SIG_IGN);
}

int run(int argc, char** argv) {
  CLI::App program(description, "dm-inspect");
  program.set_version_flag("--version", "dm-inspect " DM_VERSION);
  program.require_subcommand(1);
  program.footer(footer);
  std::vector<verb> verbs;
  for (const verb_maker make : verb_makers) verbs.push_back(make(program));
  try {
    program.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    // Help and version are success, and are printed here.
    if (e.get_exit_code() == 0) return program.exit(e) == 0 && finish_output() ? exit_clean : exit_could_not_run;
    complain(dm::escaped(e.what()) + ". Run 'dm-inspect --help' for how it is used");
    return exit_usage;
  }
  for (const verb& each : verbs)
    if (each.command->parsed()) return each.run();
  return exit_usage;
}

}  // namespace
}  // namespace tool

int main(int argc, char** argv) {
  using namespace tool;
  try {
    settle_signals();
    const int code = run(argc, argv);
    if (finish_output()) return code;
    complain("the output could not be written. Is the disk full?");
    return code | exit_could_not_run;
  } catch (const usage_error& e) {
    complain(dm::escaped(e.what()));
    return exit_usage;
  } catch (const std::bad_alloc&) {
    complain("there is not enough memory for one value of this file");
  } catch (const std::exception& e) {
    complain(dm::escaped(e.what()));
  }
  finish_output();
  return exit_could_not_run;
}
