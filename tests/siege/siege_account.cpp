// What came of a siege: the bars it must hold, and the tables.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <string>

#include "chaos/report.hpp"
#include "siege/acts.hpp"
#include "siege/siege.hpp"

namespace mempool_test {

namespace {

// The bars. Times and rates count in a long run only.
constexpr std::uint32_t kMostAttachUs = 100'000;
constexpr double kMostSlowdown = 1.3;
constexpr double kLeastPerMinute = 20;

std::string text_of(double value, const char* format = "%.2f") {
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), format, value);
    return text.data();
}

std::string in_ms(const std::vector<std::uint32_t>& sorted, double part) {
    return text_of(percentile(sorted, part) / 1000.0) + " ms";
}

// p50, p99 and the most.
std::string spread(const Samples& samples) {
    const auto sorted = samples.sorted();
    return in_ms(sorted, 0.5) + ", " + in_ms(sorted, 0.99) + ", " + in_ms(sorted, 1) + " of " +
           std::to_string(sorted.size());
}

std::uint32_t median(const Samples& samples) { return percentile(samples.sorted(), 0.5); }

std::string change(std::uint64_t before, std::uint64_t after) {
    return std::to_string(before) + " -> " + std::to_string(after);
}

}  // namespace

double Siege::per_minute(std::uint64_t count) const {
    return siege_seconds_ > 0 ? static_cast<double>(count) * 60 / siege_seconds_ : 0;
}

double Siege::slowdown() const {
    const std::uint32_t peace = median(ledger_.pair_ps[0]);
    return peace == 0 ? 0 : static_cast<double>(median(ledger_.pair_ps[1])) / peace;
}

void Siege::judge_daemon() const {
    EXPECT_EQ(daemon_.pid(), scene_.daemon) << "the daemon was restarted";
    EXPECT_TRUE(is_settled(before_, after_))
        << "the daemon did not let go of what the siege brought: " << describe(before_) << " -> "
        << describe(after_) << "\nIts descriptors:\n"
        << list_descriptors(scene_.daemon);
}

void Siege::judge_acts() const {
    for (const Who who : {Who::kStranger, Who::kMember}) {
        for (const std::size_t k : chosen(who)) {
            const Act& act = all_acts().at(k);
            const std::uint64_t tried = ledger_.tried.at(k).load();
            const std::uint64_t done = tried - std::min(tried, ledger_.in_vain.at(k).load());
            EXPECT_GT(tried, 0U) << act.name << " was never tried";
            // Whether what was tried could be done is a matter of luck in a short siege.
            if (options_.strict) {
                EXPECT_GT(act.may_be_forbidden ? tried : done, 0U) << act.name << " never came off";
                EXPECT_GE(per_minute(tried), kLeastPerMinute) << act.name << " was done too seldom";
            }
        }
    }
}

void Siege::judge_times() const {
    EXPECT_LT(percentile(ledger_.attach_us[1].sorted(), 0.99), kMostAttachUs)
        << "attaches to the work pool took too long, us";
    EXPECT_LE(slowdown(), kMostSlowdown) << "a get and its put took longer under siege";
}

void Siege::print_acts() const {
    std::printf("== Acts\n  %-9s %-32s %8s %10s %8s\n", "who", "what", "times", "a minute",
                "in vain");
    std::uint64_t all = 0;
    for (const Who who : {Who::kStranger, Who::kMember}) {
        for (const std::size_t k : chosen(who)) {
            const std::uint64_t tried = ledger_.tried.at(k).load();
            all += tried;
            std::printf("  %-9s %-32s %8llu %10.1f %8llu\n",
                        who == Who::kMember ? "member" : "stranger", all_acts().at(k).name,
                        static_cast<unsigned long long>(tried), per_minute(tried),
                        static_cast<unsigned long long>(ledger_.in_vain.at(k).load()));
        }
    }
    std::printf("  %-9s %-32s %8llu %10.1f\n", "", "together", static_cast<unsigned long long>(all),
                per_minute(all));
}

void Siege::print_account() const {
    Report report;
    report.add("seed", options_.seed);
    report.add("seconds of siege", text_of(siege_seconds_, "%.0f"));
    report.add("attach in peace: p50, p99, max", spread(ledger_.attach_us[0]));
    report.add("attach under siege: p50, p99, max", spread(ledger_.attach_us[1]));
    report.add("acts that got what they must not", ledger_.breaches.load());
    report.add("attaches refused", tally_.refused.load());
    report.add("pair in peace, under siege, median",
               text_of(median(ledger_.pair_ps[0]) / 1000.0) + " ns, " +
                   text_of(median(ledger_.pair_ps[1]) / 1000.0) + " ns: " + text_of(slowdown()) +
                   " times");
    report.add("gets of the besieged", tally_.gets.load());
    report.add("  of these killed", workers_killed_);
    report.add("slots lost", std::to_string(at_end_.slots - at_end_.free) + " of " +
                                 std::to_string(at_end_.slots));
    report.add("slots doubled, refused returns", tally_.violations.load());
    report.add("daemon restarts", daemon_.pid() == scene_.daemon ? 0 : 1);
    report.add("daemon's answers, slowest",
               std::to_string(answers_) + ", " + std::to_string(slowest_answer_ms_) + " ms");
    report.add("daemon's own memory, KiB", change(before_.anonymous_kib, after_.anonymous_kib));
    report.add("daemon's resident memory, KiB", change(before_.resident_kib, after_.resident_kib));
    report.add("daemon's descriptors", change(before_.descriptors, after_.descriptors));
    report.add("daemon's mappings", change(before_.mappings, after_.mappings));
    report.add("growths of the work pool, refused",
               std::to_string(growths_) + ", " + std::to_string(growths_refused_));
    report.add("attaches to the open pool", ledger_.open_attaches.load());
    report.add("reloads that make the open pool anew", reloads_);
    report.print();
}

}  // namespace mempool_test
