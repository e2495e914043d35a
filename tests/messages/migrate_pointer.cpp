// expects: a pointer, reference or view means nothing in another process or after a restart: store a dm::key
#include "deferred_map/migrate.hpp"

struct value {
  int* number;
};

int main() {
  dm::migrate<int, value>("m", "n", [](dm::key, int) { return value(); });
}
