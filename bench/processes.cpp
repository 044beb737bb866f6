#include "processes.hpp"

#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <vector>

namespace bench {

class Barrier {
public:
    explicit Barrier(int parties) : missing_(parties) {}
    void meet() {
        missing_.fetch_sub(1);
        while (missing_.load() > 0) {
            ::sched_yield();
        }
    }

private:
    std::atomic<int> missing_;
};

void meet(Barrier& barrier) { barrier.meet(); }

void* shared_memory(std::size_t bytes) {
    void* memory =
        ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        std::perror("pool_bench: mmap");
        std::exit(1);
    }
    return memory;
}

double run_processes(int count, const std::function<double(int, Barrier&)>& work) {
    static_assert(sizeof(Barrier) <= 64);
    auto* memory = static_cast<std::byte*>(shared_memory(4096));
    auto* barrier = new (memory) Barrier(count);
    auto* seconds = reinterpret_cast<double*>(memory + 64);
    std::vector<pid_t> children;
    for (int index = 0; index < count; ++index) {
        const pid_t child = ::fork();
        if (child == 0) {
            try {
                seconds[index] = work(index, *barrier);
                std::_Exit(0);
            } catch (const std::exception& e) {
                std::fprintf(stderr, "pool_bench: %s\n", e.what());
                std::_Exit(1);
            }
        }
        children.push_back(child);
    }
    double sum = 0;
    bool failed = false;
    for (int index = 0; index < count; ++index) {
        int status = 0;
        failed |= ::waitpid(children[static_cast<std::size_t>(index)], &status, 0) < 0 ||
                  !WIFEXITED(status) || WEXITSTATUS(status) != 0;
        sum += seconds[index];
    }
    ::munmap(memory, 4096);
    if (failed) {
        std::fprintf(stderr, "pool_bench: a measuring process failed\n");
        std::exit(1);
    }
    return sum / count;
}

}  // namespace bench
