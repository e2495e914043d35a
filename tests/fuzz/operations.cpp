// Fuzz target: the bytes of an input are operations on a map, which must do what its model does (map_machine.hpp,
// secondary_machine.hpp, join_machine.hpp). The first byte chooses the map, the type of the values and where they live.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "../plain_arena.hpp"
#include "deferred_map/allocator.hpp"
#include "deferred_map/secondary_map.hpp"
#include "deferred_map/sparse_secondary_map.hpp"
#include "fuzz_input.hpp"
#include "join_machine.hpp"
#include "map_machine.hpp"
#include "secondary_machine.hpp"

namespace {

template <class Map>
void run(fuzz::input& program) {
  fuzz::map_machine<Map>({}, {}).run(program);
}

void run_in_persistent_memory(fuzz::input& program) {
  using map = test::plain_map<std::uint64_t>;
  // Sometimes so small that it becomes full.
  const std::uint32_t slots_max = program.byte() % 2 == 0 ? 100 : 6000;
  test::plain_arena<std::uint64_t> first(slots_max);
  test::plain_arena<std::uint64_t> second(slots_max);
  fuzz::map_machine<map>(map({&first}), map({&second})).run(program);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::input program(std::span(data, size));
  switch (program.byte() % 11) {
    case 0:
      run<dm::deferred_map<std::uint64_t>>(program);
      break;
    case 1:
      run<dm::deferred_map<std::string>>(program);
      break;
    case 2:
      run<dm::deferred_map<std::unique_ptr<std::uint64_t>>>(program);
      break;
    case 3:
      run<dm::deferred_map<test::fragile>>(program);
      FUZZ_CHECK(test::fragile::alive == 0 && !test::fragile::wrong_address);
      break;
    case 4:
      run_in_persistent_memory(program);
      break;
    case 5: {
      using allocator = dm::huge_page_allocator<std::uint64_t>;
      using map = dm::deferred_map<std::uint64_t, dm::key, allocator>;
      const allocator small(std::size_t{1} << 20);  // so that its end is reached as well
      fuzz::map_machine<map>(map(small), map(small)).run(program);
      break;
    }
    case 6:
      fuzz::secondary_machine<dm::secondary_map<std::uint64_t>>().run(program);
      break;
    case 7:
      fuzz::secondary_machine<dm::secondary_map<std::string>>().run(program);
      break;
    case 8:
      fuzz::secondary_machine<dm::sparse_secondary_map<std::uint64_t>>().run(program);
      break;
    case 9:
      fuzz::secondary_machine<dm::sparse_secondary_map<std::string>>().run(program);
      break;
    default:
      fuzz::join_machine().run(program);
      break;
  }
  return 0;
}
