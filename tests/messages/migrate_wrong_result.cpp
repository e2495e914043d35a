// expects: migrate<Old, New>(from, to, f): f must return a New, or a std::optional<New> that is empty for a value to be
#include "deferred_map/migrate.hpp"

struct value {
  int number;
};

int main() {
  dm::migrate<int, value>("m", "n", [](dm::key, int old) { return old; });
}
