// bench_run: measures mempool and its peers in one run and prints the tables; see script/bench.
//
// Google Benchmark plans it: every case of every peer is a benchmark of one iteration, and all
// repetitions of all of them come in random order, so that a machine that changes its speed does so
// for all. Each repetition starts a measuring program anew, which prints one number.
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "runner/catalogue.hpp"
#include "runner/command.hpp"
#include "runner/machine.hpp"
#include "runner/table.hpp"

namespace bench {
namespace {

constexpr const char* kNotSupported = "the library can't do that";
constexpr const char* kTooLong = "it takes more than a minute";
constexpr int kExitNotSupported = 77;
constexpr int kEndedByAlarm = 128 + SIGALRM;

/// How many figures of the run are done, on a terminal.
struct Progress {
    std::size_t done = 0;
    std::size_t all = 0;
    void step() {
        ++done;
        if (::isatty(STDERR_FILENO) == 1) {
            std::fprintf(stderr, "\r%zu of %zu%s", done, all, done == all ? "\n" : "");
        }
    }
};

/// Keeps all samples; says what failed.
class Collector : public benchmark::BenchmarkReporter {
public:
    bool ReportContext(const Context& /*context*/) override { return true; }
    void ReportRuns(const std::vector<Run>& runs) override {
        for (const Run& run : runs) {
            if (run.error_occurred &&
                (run.error_message == kNotSupported || run.error_message == kTooLong)) {
                std::fprintf(stderr, "skipped: %s: %s\n", run.run_name.function_name.c_str(),
                             run.error_message.c_str());
            } else if (run.error_occurred) {
                failed_ = true;
                std::fprintf(stderr, "bench: %s: %s\n", run.run_name.function_name.c_str(),
                             run.error_message.c_str());
            } else if (run.run_type == Run::RT_Iteration) {
                samples_[run.run_name.function_name].push_back(run.GetAdjustedRealTime());
            }
        }
    }
    [[nodiscard]] const Samples& samples() const { return samples_; }
    [[nodiscard]] bool failed() const { return failed_; }

private:
    Samples samples_;
    bool failed_ = false;
};

/// What one benchmark runs.
struct Measurement {
    std::string unit;  ///< of the number that the command prints
    std::vector<std::string> command;
    bool too_long = false;  ///< it was, so it is not tried again
};

/// One repetition; nullptr, or why there is no figure.
const char* repeat(Measurement& measurement, benchmark::State& state) {
    if (measurement.too_long) {
        return kTooLong;
    }
    const Outcome outcome = run_command(measurement.command);
    char* end = nullptr;
    const double value = std::strtod(outcome.output.c_str(), &end);
    if (outcome.status == kExitNotSupported) {
        return kNotSupported;
    }
    if (outcome.status == kEndedByAlarm) {
        measurement.too_long = true;
        return kTooLong;
    }
    if (outcome.status != 0 || end == outcome.output.c_str()) {
        return "the measuring program failed";
    }
    state.SetIterationTime(value * 1e-9);
    return nullptr;
}

/// The JSON file shows the number as nanoseconds, whatever its unit.
void add(const std::string& name, const std::string& unit, std::vector<std::string> command,
         Progress& progress) {
    ++progress.all;
    const auto measurement = std::make_shared<Measurement>(Measurement{unit, std::move(command)});
    const auto run = [measurement, &progress](benchmark::State& state) {
        for (auto _ : state) {
            const char* fault = repeat(*measurement, state);
            progress.step();
            if (fault != nullptr) {
                state.SkipWithError(fault);
                break;
            }
        }
        state.SetLabel(measurement->unit);
    };
    benchmark::RegisterBenchmark(name.c_str(), run)
        ->UseManualTime()
        ->Iterations(1)
        ->Unit(benchmark::kNanosecond);
}

struct Options {
    bool quick = false;
    int repetitions = 11;
    std::string json;
};

void add_all(const Catalogue& catalogue, const Options& options, Progress& progress) {
    const int milliseconds = options.quick ? 2 : 30;
    for (const Row& row : catalogue.rows) {
        for (const std::size_t bytes : slot_sizes()) {
            if (has_sizes(row.name)) {
                add(case_of_size(bytes) + "/" + row.name, "ns a slot",
                    command_for(row, case_of_size(bytes), milliseconds), progress);
            }
        }
        if (!row.pool) {
            continue;
        }
        for (const Column& column : columns()) {
            if (column.name != "bulk" || row.bulk) {
                add(std::string(column.name) + "/" + row.name, "ns a slot",
                    command_for(row, column.name, milliseconds), progress);
            }
        }
        for (const Family& family : families()) {
            for (const int count : parties_at_once(usable_cores())) {
                if (count >= family.least) {
                    const std::string column = case_of(family, count);
                    add(column + "/" + row.name, "ns a slot",
                        command_for(row, column, milliseconds), progress);
                }
            }
        }
    }
    for (const Figure& figure : catalogue.figures) {
        add("figure/" + figure.name, figure.unit, command_for(figure), progress);
    }
}

int run(const Options& options) {
    const Catalogue catalogue = make_catalogue();
    const auto machine = describe_machine();
    for (const auto& [name, value] : machine) {
        if (name != "date") {  // Google Benchmark writes its own
            benchmark::AddCustomContext(name, value);
        }
    }
    std::vector<std::string> words = {
        "bench_run", "--benchmark_enable_random_interleaving=true",
        "--benchmark_repetitions=" + std::to_string(options.repetitions)};
    if (!options.json.empty()) {
        words.push_back("--benchmark_out=" + options.json);
        words.emplace_back("--benchmark_out_format=json");
    }
    std::vector<char*> arguments;
    arguments.reserve(words.size());
    for (std::string& word : words) {
        arguments.push_back(word.data());
    }
    int count = static_cast<int>(arguments.size());
    benchmark::Initialize(&count, arguments.data());

    Progress progress;
    add_all(catalogue, options, progress);
    progress.all *= static_cast<std::size_t>(options.repetitions);
    Collector collector;
    benchmark::RunSpecifiedBenchmarks(&collector);
    print_tables(catalogue, collector.samples(), machine, usable_cores());
    const Outcome tails = run_command(command_for_tails());
    std::printf("\n%s", tails.output.c_str());
    if (tails.status != 0) {
        std::fprintf(stderr, "bench: the table of single calls failed\n");
        return 1;
    }
    return collector.failed() ? 1 : 0;
}

/// False if the arguments are not understood.
bool parse(int argc, char** argv, Options& options) {
    for (int k = 1; k < argc; ++k) {
        const std::string word = argv[k];
        if (word == "--quick") {
            options.quick = true;
            options.repetitions = 1;
        } else if (word == "--json" && k + 1 < argc) {
            options.json = argv[++k];
        } else if (word == "--repetitions" && k + 1 < argc) {
            options.repetitions = std::atoi(argv[++k]);
        } else {
            return false;
        }
    }
    return options.repetitions > 0;
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
    bench::Options options;
    if (!bench::parse(argc, argv, options)) {
        std::fprintf(stderr, "usage: bench_run [--quick] [--repetitions N] [--json FILE]\n");
        return 2;
    }
    try {
        return bench::run(options);
    } catch (const std::exception& e) {
        std::fprintf(stderr, "bench: %s\n", e.what());
        return 1;
    }
}
