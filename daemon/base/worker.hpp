#pragma once
#include <boost/asio/io_context.hpp>
#include <functional>
namespace mempoold {
class Worker {
public:
    explicit Worker(boost::asio::io_context&) {}
    void submit(std::function<void()> work, std::function<void()> done) {
        work();
        done();
    }
};
}  // namespace mempoold
