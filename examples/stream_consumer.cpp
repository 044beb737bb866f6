// Receives a file from stream_producers: adopts the slots they name and writes them where they
// belong.
//
// Usage: stream_consumer [--producers N] POOL SOCKET OUTPUT
//
//   --producers N   end after so many producers (default 1), which may come at the same time
//
// Several consumers, each at a SOCKET of its own, may write the same OUTPUT: every chunk says where
// it belongs. OUTPUT is not emptied first.
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <sys/stat.h>

#include <exception>
#include <mempool/client.hpp>
#include <stdexcept>
#include <vector>

#include "stream.hpp"

namespace {

struct Options {
    std::size_t producers = 1;
    std::string pool;
    std::string socket;
    std::string output;
};

struct Producer {
    stream::Descriptor socket;
    stream::Totals totals;
};

/// A listening socket whose file goes with it.
class Listener {
public:
    explicit Listener(std::string path)
        : path_(std::move(path)),
          socket_(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), "no socket") {
        const sockaddr_un address = stream::address_of(path_);
        if (::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) !=
            0) {
            stream::fail("cannot listen at " + path_);
        }
        bound_ = true;
        if (::listen(socket_.get(), SOMAXCONN) != 0) {
            stream::fail("cannot listen at " + path_);
        }
    }
    Listener(const Listener&) = delete;
    Listener& operator=(const Listener&) = delete;
    ~Listener() {
        if (bound_) {
            ::unlink(path_.c_str());
        }
    }
    [[nodiscard]] int get() const noexcept { return socket_.get(); }
    [[nodiscard]] Producer accept() const {
        return {{::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC), "cannot accept"}, {}};
    }

private:
    std::string path_;
    stream::Descriptor socket_;
    bool bound_ = false;
};

class Consumer {
public:
    explicit Consumer(const Options& options)
        : client_(mempool::Client::attach(options.pool)),
          output_(::open(options.output.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666),
                  "cannot write " + options.output),
          listener_(options.socket),
          expected_(options.producers) {}

    /// Serves until the last producer is done; false if anything is missing.
    bool run() {
        auto start = stream::Clock::now();
        while (accepted_ < expected_ || !producers_.empty()) {
            if (wait()) {
                if (accepted_ == 0) {
                    start = stream::Clock::now();
                }
                producers_.push_back(listener_.accept());
                ++accepted_;
            }
        }
        stream::report("stream_consumer", bytes_, start);
        return complete_;
    }

private:
    // Sleeps until something arrives and serves the producers; whether another one wants in.
    bool wait() {
        std::vector<pollfd> polled;
        for (const Producer& producer : producers_) {
            polled.push_back({producer.socket.get(), POLLIN, 0});
        }
        polled.push_back({accepted_ < expected_ ? listener_.get() : -1, POLLIN, 0});
        if (::poll(polled.data(), polled.size(), -1) < 0 && errno != EINTR) {
            stream::fail("cannot wait");
        }
        for (std::size_t i = producers_.size(); i-- > 0;) {
            if (polled[i].revents != 0 && !serve(producers_[i])) {
                producers_.erase(producers_.begin() + static_cast<std::ptrdiff_t>(i));
            }
        }
        return polled.back().revents != 0;
    }

    // Takes one message; false when the producer is done.
    bool serve(Producer& producer) {
        stream::Chunk chunk;
        if (!stream::receive(producer.socket.get(), chunk, "a producer")) {
            std::fputs("stream_consumer: a producer died before its end\n", stderr);
            complete_ = false;
            return false;
        }
        if (chunk.length == 0) {
            stream::send(producer.socket.get(), producer.totals, "a producer");
            return false;
        }
        std::error_code error;
        const mempool::Slot slot = client_.adopt(mempool::Handle{chunk.handle}, error);
        if (!slot) {
            // Stale: its producer died since, and the daemon has taken the slot back.
            std::fprintf(stderr, "stream_consumer: the chunk at %llu is lost: %s\n",
                         static_cast<unsigned long long>(chunk.offset), error.message().c_str());
            complete_ = false;
            return true;
        }
        if (chunk.length > slot.size()) {
            throw std::runtime_error("a producer sent a chunk longer than a slot");
        }
        write_fully(slot.data(), chunk);
        ++producer.totals.chunks;
        producer.totals.bytes += chunk.length;
        bytes_ += chunk.length;
        return true;
    }

    void write_fully(const std::byte* from, const stream::Chunk& chunk) const {
        for (std::uint64_t done = 0; done < chunk.length;) {
            const ssize_t put = ::pwrite(output_.get(), from + done, chunk.length - done,
                                         static_cast<off_t>(chunk.offset + done));
            if (put < 0 && errno != EINTR) {
                stream::fail("cannot write the output");
            }
            done += put > 0 ? static_cast<std::uint64_t>(put) : 0;
        }
    }

    mempool::Client client_;
    stream::Descriptor output_;
    Listener listener_;
    std::size_t expected_;
    std::size_t accepted_ = 0;
    std::vector<Producer> producers_;
    std::uint64_t bytes_ = 0;
    bool complete_ = true;
};

Options parse(int argc, char** argv) {
    const option known[] = {{"producers", required_argument, nullptr, 'n'},
                            {nullptr, 0, nullptr, 0}};
    Options options;
    for (int c = 0; (c = ::getopt_long(argc, argv, "", known, nullptr)) != -1;) {
        if (c != 'n') {
            throw std::invalid_argument("unknown option");
        }
        options.producers = stream::number(optarg);
    }
    if (argc - optind != 3) {
        throw std::invalid_argument("a pool, a socket and an output file are needed");
    }
    options.pool = argv[optind];
    options.socket = argv[optind + 1];
    options.output = argv[optind + 2];
    return options;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return Consumer(parse(argc, argv)).run() ? 0 : 1;
    } catch (const std::invalid_argument& error) {
        std::fprintf(stderr,
                     "stream_consumer: %s\n"
                     "usage: stream_consumer [--producers N] POOL SOCKET OUTPUT\n",
                     error.what());
        return 2;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "stream_consumer: %s\n", error.what());
        return 1;
    }
}
