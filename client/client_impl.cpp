#include "client_impl.hpp"

#include <sys/mman.h>

#include <cerrno>
#include <exception>
#include <new>
#include <utility>

#include "mempool/error.hpp"
#include "mempool/shm/names.hpp"
#include "registry.hpp"

namespace mempool::detail {
namespace {

using std::chrono::milliseconds;

/// Longest wait for a segment from the daemon inside a get(), and the pause after a failure.
constexpr milliseconds kFetchTimeout{1000};
constexpr milliseconds kFetchPause{100};

std::uint64_t next_serial() noexcept {
    // Not in wiped memory: a child's clients continue the count, so none matches inherited lanes.
    static constinit std::atomic<std::uint64_t> last{0};
    return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

// What the daemon answers, or its successor: one that ends to be restarted closes the connections
// it has not answered, and where systemd keeps the socket the next one is there at once. One that
// was killed between its books and its answer has given this process a place that it keeps.
shm::Reply ask(Connection& link, const shm::Request& request, shm::UniqueFd* passed = nullptr) {
    try {
        return link.call(request, passed);
    } catch (const Error& unanswered) {
        if (unanswered.code() != std::errc::connection_reset) {
            throw;
        }
        try {
            return link.call(request, passed);
        } catch (const Error& again) {
            if (again.code() == std::errc::no_such_file_or_directory ||
                again.code() == std::errc::connection_refused) {
                throw unanswered;  // it has no successor, and its log says why
            }
            throw;
        }
    }
}

}  // namespace

HotPage::HotPage() {
    if (::madvise(this, sizeof(*this), MADV_WIPEONFORK) != 0) {
        throw Error(errno, std::generic_category(),
                    "the kernel lacks MADV_WIPEONFORK: Linux 4.14 or later is needed");
    }
}

HotPage::~HotPage() { ::madvise(this, sizeof(*this), MADV_KEEPONFORK); }

// Attaching and leaving.

std::unique_ptr<ClientImpl> ClientImpl::attach(std::string_view pool,
                                               const AttachOptions& options) {
    if (const std::string fault = shm::check_pool_name(pool); !fault.empty()) {
        throw Error(EINVAL, std::generic_category(), fault);
    }
    Connection link(options);
    shm::UniqueFd fd;
    const shm::Reply reply = ask(link, make_request(shm::RequestKind::kAttach, pool), &fd);
    std::unique_ptr<ClientImpl> client;
    try {
        if (!fd) {
            throw Error(EPROTO, std::generic_category(),
                        "mempoold at " + link.path() + " passed no memory: see its log");
        }
        PoolIdentity identity = read_identity(fd.get(), pool);
        const std::uint64_t id = reply.values[0];
        if (id == 0 || id >= identity.geometry.shape.client_count) {
            throw Error(EPROTO, std::generic_category(),
                        "mempoold at " + link.path() + " gave a client number out of range");
        }
        client =
            std::make_unique<ClientImpl>(std::move(link), Mapping(fd.get(), std::move(identity)),
                                         shm::ClientId{static_cast<std::uint32_t>(id)});
    } catch (...) {
        // Without it the daemon would keep the client's place as long as this process lives.
        link.notify(make_request(shm::RequestKind::kBye, pool));
        throw;
    }
    client->begin();
    return client;
}

// The last step that can throw comes before anything is moved: see the catch in attach().
ClientImpl::ClientImpl(Connection&& link, Mapping&& mapping, shm::ClientId id)
    : id_(id),
      mapping_((Registry::instance(), std::move(mapping))),
      link_(std::move(link)),
      quota_(mapping_.pool(), id) {
    link_.greet_with(make_request(shm::RequestKind::kResume, pool_name(), raw(id)));
    const shm::Pool& pool = mapping_.pool();
    hot.slots = pool.slot(shm::SlotIndex{0});
    hot.stride = pool.geometry().slot_stride;
    slot_size = mapping_.identity().geometry.shape.slot_size;
    mapping_.extend([this](std::uint32_t number) { return fetch_segment(number); });
    hot.limit.store(mapping_.limit(), std::memory_order_release);
}

// Until the pool was mapped, a daemon that was started again meanwhile took this process for one
// that is done with it. From here on it sees the mapping; that it still knows the client, it says
// now: where the connection was lost, the new one begins with a kResume, which must be granted.
void ClientImpl::begin() {
    try {
        ask(link_, make_request(shm::RequestKind::kStatus, ""));
    } catch (...) {
        link_.notify(make_request(shm::RequestKind::kBye, pool_name()));
        throw;
    }
    link_.limit_waits(kFetchTimeout);
    hot.serial.store(next_serial(), std::memory_order_release);
    Registry::instance().add(*this);
}

ClientImpl::~ClientImpl() {
    if (!forked()) {
        leave();
    }
    // What is left is this process's own, in a forked child too.
    ThreadLane* lane = lanes_.load(std::memory_order_relaxed);
    while (lane != nullptr) {
        delete std::exchange(lane, lane->next);
    }
}

void ClientImpl::leave() noexcept {
    Registry::instance().remove(*this);
    for (ThreadLane* lane = lanes_.load(std::memory_order_relaxed); lane != nullptr;
         lane = lane->next) {
        if (lane->used) {
            close(*lane);
        }
    }
    if (home_) {
        close(*home_);
    }
    mapping_.pool().client(id_).state.store(shm::ClientState::kLeaving, std::memory_order_release);
    link_.notify(make_request(shm::RequestKind::kBye, pool_name()));
}

// Lanes.

ThreadLane* ClientImpl::claim_lane() noexcept {
    const shm::Pool& pool = mapping_.pool();
    const std::uint32_t first = pool.geometry().shape.client_count;
    const std::uint32_t lanes = pool.geometry().lane_count - first;
    // Each client begins at a place of its own, so that they seldom meet.
    const std::uint32_t start = raw(id_) * (shm::kLanesPerClient - 1) % lanes;
    for (std::uint32_t k = 0; k < lanes; ++k) {
        const shm::LaneId id{first + (start + k) % lanes};
        if (shm::try_claim_lane(pool, id, id_)) {
            return equip(id);
        }
    }
    return nullptr;
}

ThreadLane* ClientImpl::equip(shm::LaneId id) noexcept {
    shm::Lane lane(mapping_.pool(), id, id_, 0);
    if (lane.open()) {
        if (ThreadLane* kept = keep(lane); kept != nullptr) {
            return kept;
        }
        lane.close();
    }
    if (!lane.is_ended()) {
        shm::free_lane(mapping_.pool(), id);
    }
    return nullptr;
}

ThreadLane* ClientImpl::keep(const shm::Lane& lane) noexcept {
    const std::lock_guard guard(lanes_mutex_);
    ThreadLane* head = lanes_.load(std::memory_order_relaxed);
    for (ThreadLane* old = head; old != nullptr; old = old->next) {
        if (!old->used) {
            old->lane = lane;
            old->used = true;
            return old;
        }
    }
    auto* fresh = new (std::nothrow) ThreadLane(lane);
    if (fresh != nullptr) {
        fresh->used = true;
        fresh->next = head;
        lanes_.store(fresh, std::memory_order_release);
    }
    return fresh;
}

void ClientImpl::retire(ThreadLane& lane) noexcept {
    const std::lock_guard guard(lanes_mutex_);
    close(lane);
}

void ClientImpl::close(ThreadLane& lane) noexcept {
    if (lane.lane.close()) {
        shm::free_lane(mapping_.pool(), lane.lane.id());
    }
    lane.used = false;
}

bool ClientImpl::open_home() noexcept {
    if (home_) {
        return true;
    }
    const shm::Pool& pool = mapping_.pool();
    const shm::LaneId id{raw(id_)};
    const shm::LaneWord word{pool.lane(id).word.load(std::memory_order_acquire)};
    const bool ours = word.state() == shm::LaneState::kOwned && word.client() == id_;
    if (!ours && !shm::try_claim_lane(pool, id, id_)) {
        return false;
    }
    shm::Lane lane(pool, id, id_, 0);
    if (!lane.open()) {
        return false;
    }
    home_.reset(new (std::nothrow) ThreadLane(lane));
    if (!home_) {
        lane.close();
        return false;
    }
    return true;
}

// Segments and growth: the two things a running client needs the daemon for.

bool ClientImpl::map_beyond(std::uint32_t seen) noexcept {
    const std::lock_guard guard(mapping_mutex_);
    if (mapping_.limit() <= seen) {
        mapping_.extend([this](std::uint32_t number) { return fetch_segment(number); });
        if (!closed_.load(std::memory_order_relaxed)) {
            hot.limit.store(mapping_.limit(), std::memory_order_release);
        }
    }
    return mapping_.limit() > seen;
}

// No index is below the limit then, so every get takes the slow way and finds `closed_`.
void ClientImpl::close() noexcept {
    if (forked()) {
        return;
    }
    const std::lock_guard guard(mapping_mutex_);
    closed_.store(true, std::memory_order_seq_cst);
    hot.limit.store(0, std::memory_order_release);
    std::atomic<std::uint32_t>& sequence = mapping_.pool().live().wake_sequence;
    sequence.fetch_add(1, std::memory_order_seq_cst);
    shm::futex_wake(sequence, ~std::uint64_t{0});  // strangers too: they look, and sleep again
}

shm::UniqueFd ClientImpl::fetch_segment(std::uint32_t number) noexcept {
    if (Connection::Clock::now() < next_fetch_) {
        return {};
    }
    shm::UniqueFd fd;
    try {
        const std::lock_guard guard(link_mutex_);
        link_.call(make_request(shm::RequestKind::kSegment, pool_name(), number), &fd);
    } catch (const std::exception&) {
        next_fetch_ = Connection::Clock::now() + kFetchPause;
    }
    return fd;
}

bool ClientImpl::at_full_size() const noexcept {
    const shm::Pool& pool = mapping_.pool();
    const std::uint32_t count = pool.segment_count();
    std::uint64_t slots = 0;
    for (std::uint32_t k = 0; k < count; ++k) {
        slots += pool.read_segment(k).slot_count;
    }
    return count == shm::kMaxSegments || slots >= pool.geometry().shape.max_slots;
}

void ClientImpl::ask_for_growth() noexcept {
    std::atomic<std::uint32_t>& wanted = mapping_.pool().live().grow_wanted;
    if (at_full_size() || wanted.load(std::memory_order_relaxed) != 0 ||
        wanted.exchange(1, std::memory_order_relaxed) != 0) {
        return;
    }
    // Another thread may be waiting for the daemon with the lock: then the daemon's next tick sees
    // the wish.
    const std::unique_lock guard(link_mutex_, std::try_to_lock);
    if (guard) {
        link_.notify(make_request(shm::RequestKind::kWantMore, pool_name()));
    }
}

}  // namespace mempool::detail
