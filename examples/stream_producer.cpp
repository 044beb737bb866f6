// Streams a file, or one part of it, to consumers: reads straight into slots and sends their
// handles.
//
// Usage: stream_producer [--part I/N] [--rate MIB_PER_SECOND] POOL FILE SOCKET...
//
//   --part I/N   only the Ith of N parts (I from 1): N producers together send the whole file
//   --rate R     no faster than R MiB/s, to have something to look at
//
// The chunks go to the SOCKETs in turn; a stream_consumer listens at each. Back-pressure: all
// chunks on their way are slots of the pool, so when consumers fall behind, get_for() waits.
//
// Ownership: a slot is released, not detached, before its handle is sent. So it counts as this
// process's until the consumer adopts it, and whoever is killed, at any time, the daemon takes back
// what that process had: nothing lies around between two processes, as detached slots would when
// their consumer dies with messages unread. The price: this process must stay until all has been
// adopted, so it waits for every consumer's totals.
#include <fcntl.h>
#include <getopt.h>
#include <sys/stat.h>

#include <cerrno>
#include <chrono>
#include <exception>
#include <mempool/client.hpp>
#include <stdexcept>
#include <thread>
#include <vector>

#include "stream.hpp"

namespace {

constexpr std::chrono::seconds kPatience{10};

struct Options {
    std::uint64_t part = 1;
    std::uint64_t parts = 1;
    std::uint64_t rate_mib = 0;  ///< 0: as fast as it goes
    std::string pool;
    std::string file;
    std::vector<std::string> sockets;
};

struct Consumer {
    std::string path;
    stream::Descriptor socket;
};

/// A range of the file, in bytes.
struct Range {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
};

void parse_part(std::string_view text, Options& options) {
    const std::size_t slash = text.find('/');
    if (slash == std::string_view::npos) {
        throw std::invalid_argument("--part is given as I/N, for example 1/2");
    }
    options.part = stream::number(text.substr(0, slash));
    options.parts = stream::number(text.substr(slash + 1));
    if (options.part > options.parts || options.parts > 1'000'000) {
        throw std::invalid_argument("--part I/N needs I <= N <= 1000000");
    }
}

Options parse(int argc, char** argv) {
    const option known[] = {{"part", required_argument, nullptr, 'p'},
                            {"rate", required_argument, nullptr, 'r'},
                            {nullptr, 0, nullptr, 0}};
    Options options;
    for (int c = 0; (c = ::getopt_long(argc, argv, "", known, nullptr)) != -1;) {
        if (c == 'p') {
            parse_part(optarg, options);
        } else if (c == 'r') {
            options.rate_mib = stream::number(optarg);
        } else {
            throw std::invalid_argument("unknown option");
        }
    }
    if (argc - optind < 3) {
        throw std::invalid_argument("a pool, a file and at least one socket are needed");
    }
    options.pool = argv[optind];
    options.file = argv[optind + 1];
    options.sockets.assign(argv + optind + 2, argv + argc);
    return options;
}

stream::Descriptor open_file(const std::string& path, std::uint64_t& size) {
    stream::Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC), "cannot open " + path);
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) {
        stream::fail("cannot look at " + path);
    }
    if (!S_ISREG(status.st_mode)) {
        throw std::invalid_argument(path + " is not a regular file");
    }
    size = static_cast<std::uint64_t>(status.st_size);
    return file;
}

// A socket's file is there a moment before somebody listens.
Consumer connect_to(const std::string& path) {
    Consumer consumer{path, {::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), "no socket"}};
    const sockaddr_un address = stream::address_of(path);
    for (int tries = 100;
         ::connect(consumer.socket.get(), reinterpret_cast<const sockaddr*>(&address),
                   sizeof address) != 0;
         --tries) {
        if (errno != ECONNREFUSED || tries == 0) {
            stream::fail("cannot reach a stream_consumer at " + path);
        }
        std::this_thread::sleep_for(std::chrono::milliseconds{10});
    }
    return consumer;
}

// The part asked for; parts meet where slots do.
Range range_of(const Options& options, std::uint64_t file_bytes, std::uint64_t slot_bytes) {
    const std::uint64_t slots = (file_bytes + slot_bytes - 1) / slot_bytes;
    const auto border = [&](std::uint64_t k) {
        return std::min(slots * k / options.parts * slot_bytes, file_bytes);
    };
    return {border(options.part - 1), border(options.part)};
}

void read_fully(int file, std::byte* to, std::uint64_t bytes, std::uint64_t offset) {
    for (std::uint64_t done = 0; done < bytes;) {
        const ssize_t got =
            ::pread(file, to + done, bytes - done, static_cast<off_t>(offset + done));
        if (got == 0) {
            throw std::runtime_error("the file became shorter while it was read");
        }
        if (got < 0 && errno != EINTR) {
            stream::fail("cannot read the file");
        }
        done += got > 0 ? static_cast<std::uint64_t>(got) : 0;
    }
}

void keep_to_rate(std::uint64_t rate_mib, std::uint64_t sent_bytes,
                  stream::Clock::time_point start) {
    if (rate_mib != 0) {
        const std::chrono::duration<double> due(static_cast<double>(sent_bytes) /
                                                (static_cast<double>(rate_mib) * 1024 * 1024));
        std::this_thread::sleep_until(start +
                                      std::chrono::duration_cast<stream::Clock::duration>(due));
    }
}

void send_range(const Options& options, mempool::Client& client, int file, Range range,
                const std::vector<Consumer>& consumers) {
    const auto start = stream::Clock::now();
    std::size_t turn = options.part;
    for (std::uint64_t at = range.begin; at < range.end;) {
        std::error_code error;
        mempool::Slot slot = client.get_for(kPatience, error);
        if (!slot) {
            throw std::system_error(error, "no slot; do the consumers run?");
        }
        const std::uint64_t length = std::min<std::uint64_t>(slot.size(), range.end - at);
        read_fully(file, slot.data(), length, at);
        const Consumer& to = consumers[turn++ % consumers.size()];
        stream::send(to.socket.get(), stream::Chunk{slot.release().value(), at, length}, to.path);
        at += length;
        keep_to_rate(options.rate_mib, at - range.begin, start);
    }
}

// Waits until everything sent is in the output files; how many bytes that is.
std::uint64_t finish(const std::vector<Consumer>& consumers) {
    std::uint64_t bytes = 0;
    for (const Consumer& consumer : consumers) {
        stream::send(consumer.socket.get(), stream::Chunk{}, consumer.path);
    }
    for (const Consumer& consumer : consumers) {
        stream::Totals totals;
        if (!stream::receive(consumer.socket.get(), totals, consumer.path)) {
            throw std::runtime_error("the consumer at " + consumer.path + " went away");
        }
        bytes += totals.bytes;
    }
    return bytes;
}

void run(const Options& options) {
    std::uint64_t file_bytes = 0;
    const stream::Descriptor file = open_file(options.file, file_bytes);
    std::vector<Consumer> consumers;
    for (const std::string& path : options.sockets) {
        consumers.push_back(connect_to(path));
    }
    auto client = mempool::Client::attach(options.pool);
    const Range range = range_of(options, file_bytes, client.slot_size());

    const auto start = stream::Clock::now();
    send_range(options, client, file.get(), range, consumers);
    const std::uint64_t arrived = finish(consumers);
    if (arrived != range.end - range.begin) {
        throw std::runtime_error("sent " + std::to_string(range.end - range.begin) +
                                 " bytes, but " + std::to_string(arrived) + " arrived");
    }
    stream::report("stream_producer", arrived, start);
}

}  // namespace

int main(int argc, char** argv) {
    try {
        run(parse(argc, argv));
        return 0;
    } catch (const std::invalid_argument& error) {
        std::fprintf(stderr,
                     "stream_producer: %s\n"
                     "usage: stream_producer [--part I/N] [--rate MIB_PER_SECOND] "
                     "POOL FILE SOCKET...\n",
                     error.what());
        return 2;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "stream_producer: %s\n", error.what());
        return 1;
    }
}
