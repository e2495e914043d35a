// That this compiles shows that the other migrations fail for what they say.
#include "deferred_map/migrate.hpp"

struct value {
  double number;
};

int main() {
  using key = dm::basic_key<value>;
  std::error_code code;
  dm::migrate<int, value>("m", "n", [](dm::key, int) { return value(); });
  dm::migrate<int, value>("m", "n", [](int) { return std::optional<value>(); }, {.max_slots = 7});
  dm::migrate<value, int, key>(
      "m", "n", [](key, const value&) { return 1; }, code);
  dm::migrate<value, int, key>(
      "m", "n", [](key, value) { return 1; }, {.permissions = 0640}, code);
}
