#include "pool.h"

#include <algorithm>
#include <chrono>

namespace binseg {
namespace {

// Looks at `done` for a few microseconds: most loops of a network follow each other so closely that
// sleeping would cost more. A busy machine loses no more than that.
template <class F>
bool soon(F&& done) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(4);
  do {
    for (int i = 0; i < 16; ++i) {
      if (done()) return true;
#if defined(__x86_64__) || defined(__i386__)
      __builtin_ia32_pause();
#endif
    }
  } while (std::chrono::steady_clock::now() < end);
  return done();
}

}  // namespace

Pool::~Pool() { stop(); }

void Pool::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    loops_.fetch_add(1);
  }
  begun_.notify_all();
  for (std::thread& worker : workers_) worker.join();
  workers_.clear();
  stopping_ = false;
}

void Pool::set_threads(int count) {
  if (count == threads_) return;
  stop();
  threads_ = count;
}

void Pool::share(int64_t count, Call call, void* function, int64_t least) {
#ifdef __cpp_exceptions
  try {
    while (static_cast<int>(workers_.size()) < threads_ - 1)
      workers_.emplace_back(
          [this, thread = static_cast<int>(workers_.size()) + 1] { work(thread); });
  } catch (...) {  // the system gives no more threads: those that are there do it
  }
#endif
  {
    const std::lock_guard lock(mutex_);
    call_ = call;
    function_ = function;
    count_ = count;
    const int64_t fair = (count + threads_ - 1) / threads_;
    piece_ = std::max({int64_t(1), count / (threads_ * 4), std::min(least, fair)});
    next_.store(0);
    open_ = true;
    loops_.fetch_add(1);
  }
  begun_.notify_all();
  take_pieces(0);
  {  // whoever has not joined by now is not waited for
    const std::lock_guard lock(mutex_);
    open_ = false;
  }
  if (soon([this] { return inside_.load() == 0; })) return;
  std::unique_lock lock(mutex_);
  ended_.wait(lock, [this] { return inside_.load() == 0; });
}

void Pool::take_pieces(int thread) {
  for (;;) {
    const int64_t begin = next_.fetch_add(piece_);
    if (begin >= count_) return;
    call_(function_, begin, std::min(count_, begin + piece_), thread);
  }
}

void Pool::work(int thread) {
  uint32_t seen = 0;
  for (;;) {
    soon([&] { return loops_.load() != seen; });
    {
      std::unique_lock lock(mutex_);
      begun_.wait(lock, [&] { return loops_.load() != seen; });
      seen = loops_.load();
      if (stopping_) return;
      if (!open_) continue;
      inside_.fetch_add(1);
    }
    take_pieces(thread);
    const std::lock_guard lock(mutex_);
    if (inside_.fetch_sub(1) == 1) ended_.notify_one();
  }
}

}  // namespace binseg
