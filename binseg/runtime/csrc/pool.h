// Threads that share loops and sleep when there is nothing to do.
#pragma once

#include <cstdint>

#ifndef __wasm__
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>
#endif

namespace binseg {

#ifdef __wasm__
// WebAssembly has no threads here: a page gives each image to a worker of its own.
class Pool {
 public:
  void set_threads(int) {}
  int threads() const { return 1; }
  template <class F>
  void run(int64_t count, F&& f, int64_t = 1) {
    if (count > 0) f(int64_t(0), count, 0);
  }
};
#else
class Pool {
 public:
  Pool() = default;
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // The caller is one of them; the others start when they are first needed.
  void set_threads(int count);
  int threads() const { return threads_; }

  // f(begin, end, thread) until [0, count) is done; `thread` is below `threads()`, and no two calls
  // with one run at once. f must not throw. A call gets `least` at once where that leaves something
  // for all threads.
  template <class F>
  void run(int64_t count, F&& f, int64_t least = 1) {
    if (threads_ == 1 || count <= 1) {
      if (count > 0) f(int64_t(0), count, 0);
      return;
    }
    share(
        count,
        [](void* function, int64_t begin, int64_t end, int thread) {
          (*static_cast<std::remove_reference_t<F>*>(function))(begin, end, thread);
        },
        &f, least);
  }

 private:
  using Call = void (*)(void* function, int64_t begin, int64_t end, int thread);

  void share(int64_t count, Call call, void* function, int64_t least);
  void take_pieces(int thread);
  void work(int thread);
  void stop();

  int threads_ = 1;
  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable begun_, ended_;
  // of the loop that is shared now; written under the mutex while no worker is in it
  Call call_ = nullptr;
  void* function_ = nullptr;
  int64_t count_ = 0, piece_ = 1;
  std::atomic<int64_t> next_{0};
  std::atomic<uint32_t> loops_{0};  // begun so far
  std::atomic<int> inside_{0};      // workers in the loop
  bool open_ = false;               // workers may still join
  bool stopping_ = false;
};
#endif

}  // namespace binseg
