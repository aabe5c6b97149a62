// Work shared among threads.

#pragma once

#include <algorithm>
#include <cstdint>
#include <thread>
#include <vector>

namespace {

template <typename F>
void parallel_over(int64_t count, int threads, F&& work) {
    threads = static_cast<int>(std::min<int64_t>(std::max(threads, 1), std::max<int64_t>(count, 1)));
    if (threads == 1) {
        work(int64_t{0}, count);
        return;
    }
    std::vector<std::thread> pool;
    for (int index = 0; index < threads; ++index) {
        const int64_t begin = count * index / threads, end = count * (index + 1) / threads;
        pool.emplace_back([&work, begin, end] { work(begin, end); });
    }
    for (auto& thread : pool) thread.join();
}

}  // namespace
