// expects: migrate<Old, New>(from, to, f): f must be callable as f(key, old) or f(old), where old is a const Old&
#include "deferred_map/migrate.hpp"

int main() {
  dm::migrate<int, long>("m", "n", [](dm::key, int& old) { return long{old}; });
}
