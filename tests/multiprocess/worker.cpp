#include "multiprocess/worker.hpp"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <span>
#include <string>
#include <system_error>
#include <utility>

namespace mempool_test {

namespace {

using mempool::Handle;
using mempool::Slot;

// A stamp: life:24 | in the mail:1 | random:39. It stands in a slot's first eight bytes, its
// inverse in the last eight; 0 is none.
constexpr std::uint64_t kInMail = std::uint64_t{1} << 39U;

std::uint32_t life_of(std::uint64_t stamp) { return static_cast<std::uint32_t>(stamp >> 40U); }

void write(const Slot& slot, std::uint64_t stamp) {
    const std::uint64_t inverse = ~stamp;
    std::memcpy(slot.data(), &stamp, sizeof(stamp));
    std::memcpy(slot.data() + slot.size() - sizeof(inverse), &inverse, sizeof(inverse));
}

// The stamp in the slot; 0 if there is none, or half of one.
std::uint64_t read(const Slot& slot) {
    std::uint64_t first = 0;
    std::uint64_t last = 0;
    std::memcpy(&first, slot.data(), sizeof(first));
    std::memcpy(&last, slot.data() + slot.size() - sizeof(last), sizeof(last));
    return last == ~first ? first : 0;
}

std::string text_of(std::uint64_t stamp) {
    std::array<char, 80> text{};
    std::snprintf(text.data(), text.size(), "%#llx (life %u%s)",
                  static_cast<unsigned long long>(stamp), life_of(stamp),
                  (stamp & kInMail) != 0 ? ", in the mail" : "");
    return text.data();
}

}  // namespace

void Tally::accuse(const std::string& what) {
    violations.fetch_add(1);
    if (accused.exchange(1) == 0) {
        std::snprintf(first_violation.data(), first_violation.size(), "process %d: %s", ::getpid(),
                      what.c_str());
    }
}

void Worker::step() {
    switch (random_() % 10) {
        case 0:
        case 1:
            keep(client_.get());
            break;
        case 2:
            get_bulk();
            break;
        case 3:
            wait();
            break;
        case 4:
            send();
            break;
        case 5:
            receive();
            break;
        case 6:
            put_bulk();
            break;
        default:
            put();
    }
}

void Worker::finish() {
    while (!held_.empty()) {
        put();
    }
}

std::uint64_t Worker::new_stamp(bool in_mail) {
    return (std::uint64_t{options_.life} << 40U) | (in_mail ? kInMail : 0U) | random_();
}

// What was in the mail may have been freed by age, or have died with its receiver: its stamp says
// nothing about holders.
void Worker::expect_nobodys(const Slot& slot) {
    const std::uint64_t stamp = read(slot);
    if (stamp == 0 || (stamp & kInMail) != 0 || life_of(stamp) >= kMostLives ||
        tally_.over.at(life_of(stamp)).load() != 0) {
        return;
    }
    tally_.accuse("got slot " + std::to_string(slot.handle().index()) +
                  ", which has the stamp of one at work: " + text_of(stamp));
}

void Worker::keep(Slot slot) {
    if (!slot) {
        put();  // exhausted: make room for the others
        return;
    }
    expect_nobodys(slot);
    if (held_.size() >= options_.most_held) {
        put();
    }
    const std::uint64_t stamp = new_stamp(false);
    write(slot, stamp);
    held_.push_back({std::move(slot), stamp});
    tally_.gets.fetch_add(1, std::memory_order_relaxed);
}

void Worker::wait() {
    Slot slot = client_.get_for(std::chrono::microseconds{random_() % 8 == 0 ? 5000 : 200});
    tally_.waited.fetch_add(slot ? 1 : 0, std::memory_order_relaxed);
    keep(std::move(slot));
}

void Worker::get_bulk() {
    std::array<Slot, 7> slots;
    const std::size_t got = client_.get_bulk(slots);
    for (std::size_t k = 0; k < got; ++k) {
        keep(std::move(slots.at(k)));
    }
}

Worker::Held Worker::take_one() {
    std::swap(held_[random_() % held_.size()], held_.back());
    Held held = std::move(held_.back());
    held_.pop_back();
    return held;
}

void Worker::put() {
    if (held_.empty()) {
        return;
    }
    Held held = take_one();
    check(held, "before a put");
    write(held.slot, 0);
    if (random_() % 4 == 0) {
        (void)held.slot.handle();  // somebody might know it now: another way to return
    }
    if (const std::error_code error = client_.put(std::move(held.slot))) {
        tally_.accuse("a put was refused: " + error.message());
    }
    tally_.puts.fetch_add(1, std::memory_order_relaxed);
}

void Worker::put_bulk() {
    std::array<Slot, 5> slots;
    const std::size_t count = std::min(slots.size(), held_.size());
    for (std::size_t k = 0; k < count; ++k) {
        Held held = take_one();
        check(held, "before a put in bulk");
        write(held.slot, 0);
        slots.at(k) = std::move(held.slot);
    }
    if (client_.put_bulk(std::span(slots).first(count)) != count) {
        tally_.accuse("a put in bulk was refused");
    }
    tally_.puts.fetch_add(count, std::memory_order_relaxed);
}

void Worker::send() {
    if (held_.empty()) {
        return;
    }
    Held held = take_one();
    check(held, "before it was sent");
    const Letter letter{held.slot.handle().value(), new_stamp(true)};
    write(held.slot, letter.stamp);
    if (random_() % 2 == 0) {
        if (!held.slot.detach()) {
            tally_.accuse("a detach was refused");
        }
    } else {
        held.slot.release();
    }
    if (::write(options_.mail[1], &letter, sizeof(letter)) == sizeof(letter)) {
        tally_.sent.fetch_add(1, std::memory_order_relaxed);
    } else if (const std::error_code error =
                   client_.put(Handle{letter.handle});     // the pipe is full
               error && error != mempool::Errc::kStale) {  // stale: freed by age
        tally_.accuse("a put by handle was refused: " + error.message());
    }
}

void Worker::receive() {
    Letter letter;
    if (::read(options_.mail[0], &letter, sizeof(letter)) != sizeof(letter)) {
        return;
    }
    std::error_code error;
    Slot slot = client_.adopt(Handle{letter.handle}, error);
    if (!slot) {
        tally_.stale.fetch_add(1, std::memory_order_relaxed);
        if (error != mempool::Errc::kStale) {
            tally_.accuse("an adopt failed: " + error.message());
        }
        return;
    }
    Held held{std::move(slot), letter.stamp};
    check(held, "after it was adopted");
    held.stamp = new_stamp(false);
    write(held.slot, held.stamp);
    tally_.adopted.fetch_add(1, std::memory_order_relaxed);
    held_.push_back(std::move(held));
}

void Worker::check(const Held& held, const char* when) {
    if (const std::uint64_t stamp = read(held.slot); stamp != held.stamp) {
        tally_.accuse("slot at " + std::to_string(held.slot.offset()) + " has the stamp " +
                      text_of(stamp) + " and not " + text_of(held.stamp) + " " + when);
    }
}

}  // namespace mempool_test
