#include "closed_in_children.hpp"

#include <pthread.h>

#include <mutex>

namespace dm::sharing {

struct closed_in_children::registry {
  std::mutex mutex;
  closed_in_children* first = nullptr;

  registry() {
    ::pthread_atfork([] { it().mutex.lock(); }, [] { it().mutex.unlock(); },
                     [] {
                       for (closed_in_children* one = it().first; one != nullptr; one = one->next_)
                         one->file_->close_in_child();
                       it().mutex.unlock();
                     });
  }
  /// Never destroyed: a fork may come after the destructors of static objects.
  static registry& it() {
    static registry& forever = *new registry;
    return forever;
  }
};

closed_in_children::forks_wait::forks_wait() { registry::it().mutex.lock(); }
closed_in_children::forks_wait::~forks_wait() { registry::it().mutex.unlock(); }

void closed_in_children::link() noexcept {
  next_ = registry::it().first;
  if (next_ != nullptr) next_->previous_ = this;
  registry::it().first = this;
}

closed_in_children::~closed_in_children() {
  const forks_wait waiting;
  (previous_ != nullptr ? previous_->next_ : registry::it().first) = next_;
  if (next_ != nullptr) next_->previous_ = previous_;
}

}  // namespace dm::sharing
