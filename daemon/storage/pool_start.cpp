#include "daemon/storage/pool_start.hpp"

#include <fmt/core.h>
#include <sys/stat.h>

#include <algorithm>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include "daemon/base/fail.hpp"
#include "daemon/base/log.hpp"
#include "mempool/shm/words/names.hpp"

namespace mempoold {

namespace {

namespace shm = mempool::shm;

bool is_of_memfds(const PoolConfig& config) {
    return config.backing == PoolConfig::Backing::kMemfd;
}

// What was set aside begins with the same letters.
std::string how_to_remove(const std::string& pool) {
    return fmt::format("remove /dev/shm{0} and each /dev/shm{0}.* except those with .aside-",
                       shm::object_name(pool, 0));
}

void warn_of_differences(const PoolConfig& config, const Storage& storage) {
    const shm::Shape& found = storage.geometry().shape;
    const shm::Shape wanted = config.shape();
    std::string differences;
    const auto compare = [&](const char* key, std::uint64_t there, std::uint64_t asked) {
        if (there != asked) {
            differences += fmt::format("{}{} is {}, not {}", differences.empty() ? "" : ", ", key,
                                       there, asked);
        }
    };
    compare("slot_size", found.slot_size, wanted.slot_size);
    compare("slots at creation", storage.segments().front().entry.slot_count, config.slots);
    compare("max_slots", found.max_slots, wanted.max_slots);
    compare("max_clients", found.client_count - 1, config.max_clients);
    if (config.shards != 0) {
        compare("shards", found.shard_count, config.shards);
    }
    if (!differences.empty()) {
        log_warning(
            "pool '{}' exists and stays as it is: {}. To replace it, stop all of its clients, take "
            "it out of the configuration and restart mempoold{}; then put it back, and reload",
            config.name, differences,
            is_of_memfds(config) ? "" : ", and " + how_to_remove(config.name));
    }
}

// What there is to do once those who cannot be seen have ended. Not to stop mempoold: systemd lets
// go of the segments of all pools of memfds then.
std::string how_to_give_up(const PoolConfig& config, bool memfds) {
    return memfds ? "take the pool out of the configuration and reload, which gives up this pool "
                    "alone; then put it back, and reload again"
                  : how_to_remove(config.name) + ", then reload";
}

std::string describe(const std::vector<FormerClient>& clients) {
    constexpr std::size_t kMostNamed = 20;
    std::string pids;
    for (std::size_t k = 0; k < std::min(clients.size(), kMostNamed); ++k) {
        pids += fmt::format("{}{}{}", k == 0 ? "" : ", ", clients[k].pid,
                            clients[k].seen ? "" : " unseen");
    }
    return fmt::format("{} of its clients live (pid {}{})", clients.size(), pids,
                       clients.size() > kMostNamed ? ", ..." : "");
}

std::string what_of(const std::exception_ptr& fault) {
    try {
        std::rethrow_exception(fault);
    } catch (const std::exception& e) {
        return e.what();
    }
}

}  // namespace

PoolStart::PoolStart(const PoolConfig& config, std::uint64_t now, FdStore* store,
                     RuntimeDirectory* runtime, const FormerClients& former_clients)
    : config_(config),
      now_(now),
      runtime_(runtime),
      backing_(make_backing(config, store, runtime)) {
    try {
        storage_ = Storage::reattach(config_, backing_);
    } catch (const Unusable& e) {
        add(backing_, e.what(), former_clients);
    }
    find_other(store, former_clients);
}

// A pool that was configured with the other backing: tools would take a named one for this, and to
// one of memfds nobody could come any more. A pool of memfds can't fail because of a name, so
// whatever goes wrong there is only told.
void PoolStart::find_other(FdStore* store, const FormerClients& look) {
    const bool memfds = is_of_memfds(config_);
    PoolConfig other = config_;
    other.backing = memfds ? PoolConfig::Backing::kShm : PoolConfig::Backing::kMemfd;
    try {
        auto backing = make_backing(other, memfds ? nullptr : store, runtime_);
        if (backing->find()) {
            add(std::move(backing),
                fmt::format("the pool was configured with backing = {}", memfds ? "memfd" : "shm"),
                look);
        }
    } catch (const std::exception& e) {
        if (!memfds) {
            throw;
        }
        log_warning("pool '{}' is made of memfds; what there is of that name in /dev/shm stays: {}",
                    config_.name, e.what());
    }
}

// The index is believed: nobody else writes there. A pool that it does not know is a former
// release's, or the index was lost. Then the header has to do, though clients can write over it:
// one that says so wrongly keeps its own pool from being served until an operator removes that,
// while to disbelieve it would move pools that are in use.
bool PoolStart::is_former(int file) const {
    const struct stat status = status_of(file);
    if (runtime_ != nullptr) {
        const auto note = runtime_->index().layouts.find(config_.name);
        if (note != runtime_->index().layouts.end() && note->second.device == status.st_dev &&
            note->second.inode == status.st_ino) {
            return note->second.version == shm::kFormerLayoutVersion;
        }
    }
    shm::Header header{};
    if (static_cast<std::uint64_t>(status.st_size) < sizeof(header)) {
        return false;
    }
    if (const int error = read_at(file, static_cast<void*>(&header), sizeof(header), 0)) {
        fail(error, "cannot read the header of a pool");
    }
    return is_of_former_layout(header);
}

void PoolStart::add(std::shared_ptr<Backing> backing, std::string why, const FormerClients& look) {
    UniqueFd file = backing->open(0, false);
    const bool former = look && file && is_former(file.get());
    InTheWay& found = in_the_way_.emplace_back();
    found.backing = std::move(backing);
    found.why = std::move(why);
    if (former) {
        try {
            found.look = look(std::move(file));
        } catch (const std::exception&) {
            found.fault = std::current_exception();
        }
    }
}

bool PoolStart::step() noexcept {
    for (InTheWay& found : in_the_way_) {
        if (!found.look) {
            continue;
        }
        try {
            auto clients = found.look();
            if (!clients) {
                return false;
            }
            found.clients = std::move(*clients);
        } catch (const std::exception&) {
            found.fault = std::current_exception();
        }
        found.look = nullptr;
    }
    return !first_ || first_->step();
}

// A pool of the former layout that is in use, or may be, is left to its clients.
void PoolStart::leave_if_in_use(const InTheWay& found) const {
    if (!found.fault && found.clients.empty()) {
        return;
    }
    const bool all_seen = !found.fault && std::all_of(found.clients.begin(), found.clients.end(),
                                                      [](const FormerClient& c) { return c.seen; });
    throw InUse(fmt::format(
        "{} is of layout version {}, a former release's, and this build makes version {}. {}, so "
        "it stays as it is; until they end they are unsupervised: nothing is reclaimed for them, "
        "and it does not grow. Stop them, then reload mempoold (systemctl reload mempoold){}",
        found.backing->describe(0), shm::kFormerLayoutVersion, shm::kLayoutVersion,
        found.fault ? fmt::format("Who uses it cannot be told ({})", what_of(found.fault))
                    : describe(found.clients),
        all_seen
            ? ""
            : ". Who is unseen counts as alive; once you know that all have ended: " +
                  how_to_give_up(config_, (found.backing == backing_) == is_of_memfds(config_))));
}

void PoolStart::set_aside(const InTheWay& found) const {
    const std::string first = found.backing->describe(0);
    if (found.backing == backing_) {
        const std::string done = found.backing->set_aside(0, now_, found.why);
        log_error(
            "pool '{}': {} cannot be served: {}. It was {}; a new, empty pool takes its place",
            config_.name, first, found.why, done);
        return;
    }
    try {
        log_warning("pool '{}': {}; {} was {}", config_.name, found.why, first,
                    found.backing->set_aside(0, now_, found.why));
    } catch (const std::exception& e) {
        log_warning("pool '{}': {}; {} stays: {}", config_.name, found.why, first, e.what());
    }
}

bool PoolStart::proceed() {
    if (!std::exchange(found_, false)) {
        return false;
    }
    std::erase_if(in_the_way_, [this](const InTheWay& found) {
        try {
            leave_if_in_use(found);
        } catch (const InUse& e) {
            if (!storage_ || !is_of_memfds(config_)) {
                throw;
            }
            log_warning("pool '{}': {}", config_.name,
                        e.what());  // the name of another is no obstacle
            return true;
        }
        return false;
    });
    for (const InTheWay& found : std::exchange(in_the_way_, {})) {
        set_aside(found);
    }
    if (storage_) {
        log_info("pool '{}': took over {} slots in {} segments", config_.name, storage_->slots(),
                 storage_->segments().size());
        warn_of_differences(config_, *storage_);
        storage_->clear_leftovers();
        note_layout();
        return false;
    }
    NewPool made = Storage::begin(config_, now_, backing_);
    storage_ = std::move(made.storage);
    first_ = std::move(made.first);
    return true;
}

// Without the note the pool is as good; only its header can tell then.
void PoolStart::note_layout() const noexcept {
    const shm::LayoutNote note{
        .version = shm::kLayoutVersion, .device = storage_->device(), .inode = storage_->inode()};
    try {
        if (runtime_ != nullptr) {
            const auto there = runtime_->index().layouts.find(config_.name);
            if (there == runtime_->index().layouts.end() || there->second != note) {
                runtime_->update(
                    [&](shm::PoolIndex& index) { index.layouts[config_.name] = note; });
            }
        }
    } catch (const std::exception& e) {
        log_warning("pool '{}': its layout version cannot be noted: {}", config_.name, e.what());
    }
}

std::unique_ptr<Storage> PoolStart::finish() {
    if (!first_) {
        return std::move(storage_);
    }
    storage_->announce(*first_);
    first_.reset();
    storage_->clear_leftovers();
    note_layout();
    log_info("pool '{}': made {} slots of {} bytes, up to {}", config_.name, storage_->slots(),
             config_.slot_size, config_.max_slots);
    if (is_of_memfds(config_) && !has_service_manager()) {
        log_info(
            "pool '{}' is made of memfds, and no service manager keeps them: it is served until "
            "this mempoold ends; clients that are attached then go on among themselves",
            config_.name);
    }
    return std::move(storage_);
}

}  // namespace mempoold
